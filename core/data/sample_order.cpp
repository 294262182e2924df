#include "core/data/sample_order.h"

#include <bit>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace muonp::core {
namespace {

constexpr std::uint64_t kStream = 0x73616d706c657300ull;  // keeps these draws apart from all others of the same seed
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

}  // namespace muonp::core
