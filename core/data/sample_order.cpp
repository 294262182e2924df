#include "core/data/sample_order.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace muonp::core {
namespace {

constexpr std::uint64_t kStream = 0x73616d706c657300ull;      // keeps these draws apart from all others of the same seed
constexpr std::uint64_t kPartStream = 0x7061727473000000ull;  // and orders within a part from those of epochs
constexpr int kRounds = 6;

}  // namespace

std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t seed, std::uint64_t key) {
  MUONP_ASSERT(index >= 0 && index < size, "index {} of {}", index, size);
  const int half = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size - 1)) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  std::uint64_t at = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = at >> half, right = at & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const Random4 draw = philox(seed ^ kStream, key, (round << 32) | right);
      const std::uint64_t mixed = left ^ (draw.v[0] & mask);
      left = right;
      right = mixed;
    }
    at = (left << half) | right;
  } while (at >= static_cast<std::uint64_t>(size));
  return static_cast<std::int64_t>(at);
}

SampleOrder::SampleOrder(std::int64_t windows, std::int64_t batch, std::uint64_t seed, bool shuffle)
    : windows_(windows), batch_(batch), seed_(seed), shuffle_(shuffle) {
  MUONP_ASSERT(windows >= 1 && batch >= 1, "{} windows, batches of {}", windows, batch);
}

std::int64_t SampleOrder::window(std::int64_t step, std::int64_t i) const {
  MUONP_ASSERT(step >= 0 && i >= 0 && i < batch_, "sample {} of step {}", i, step);
  const std::int64_t sample = step * batch_ + i;
  const std::int64_t epoch = sample / windows_, position = sample % windows_;
  return shuffle_ ? permuted(position, windows_, seed_, static_cast<std::uint64_t>(epoch)) : position;
}

std::vector<MixedOrder::Share> MixedOrder::shares(const std::vector<Part>& parts) {
  MUONP_ASSERT(!parts.empty(), "no parts");
  std::vector<Share> shares;
  std::int64_t begin = 0;
  for (const Part& p : parts) {
    MUONP_ASSERT(p.size >= 1 && p.weight > 0, "a part of {} with weight {}", p.size, p.weight);
    const auto samples = std::max<std::int64_t>(1, std::llround(p.weight * static_cast<double>(p.size)));
    shares.push_back({p.size, samples, begin});
    begin += samples;
  }
  return shares;
}

MixedOrder::MixedOrder(const std::vector<Part>& parts, std::int64_t batch, std::uint64_t seed, bool shuffle)
    : parts_(shares(parts)),
      order_(parts_.back().begin + parts_.back().samples, batch, seed, shuffle),
      seed_(seed),
      shuffle_(shuffle) {}

MixedOrder::Place MixedOrder::place(std::int64_t step, std::int64_t i) const {
  const std::int64_t position = order_.window(step, i), epoch = (step * batch() + i) / epoch_samples();
  const auto after = std::ranges::upper_bound(parts_, position, {}, &Share::begin);
  const auto part = static_cast<std::size_t>(after - parts_.begin()) - 1;
  const Share& share = parts_[part];
  const std::int64_t index = (epoch * share.samples + position - share.begin) % share.size;
  if (!shuffle_ || share.samples % share.size == 0) return {part, index};
  return {part, permuted(index, share.size, seed_ ^ kPartStream, part)};
}

}  // namespace muonp::core
