// What a state becomes that is kept in fewer bits: the levels, the choice between two of them, and the pieces that rules
// compute on, against the formats of optim/storage/storage.h in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/rng.h"
#include "optim/storage/codec.h"
#include "optim/storage/stored_state.h"
#include "tests/support/test_device.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::test;

namespace {

using Floats = std::vector<float>;

constexpr std::int64_t kFirsts[] = {0, 13, 255, 256, 1000};
constexpr std::int64_t kSize = 1500;
constexpr std::uint64_t kKey = 5;
constexpr Content kContents[] = {Content::moment, Content::second_moment};

core::Tensor tensor(core::Device& device, const Floats& values) {
  const core::Tensor t = core::Tensor::empty(device, {std::ssize(values)}, core::Dtype::float32, core::Category::other);
  set_values(t, values);
  return t;
}

// Of magnitudes over six decades, or twelve for squares, with some zeros.
Floats sample(Content content, std::uint64_t seed, std::int64_t size = kSize) {
  Floats values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double size_of = std::pow(10.0, -6.0 * core::uniform(seed, 1, i));
    const double x = i % 97 == 5 ? 0 : core::normal(seed, 2, i) * size_of;
    values[i] = static_cast<float>(content == Content::second_moment ? x * x : x);
  }
  return values;
}

Storage int8(Content content, bool stochastic = false) { return {StateDtype::int8, content, stochastic}; }

struct Encoded {
  core::Tensor codes, scales;
};

Encoded encode(core::Device& device, const Floats& values, Content content, std::int64_t first, const RoundingKey& key) {
  const auto size = std::ssize(values);
  const Encoded e{core::Tensor::empty(device, {size}, core::Dtype::uint8, core::Category::other),
                  core::Tensor::empty(device, {state_blocks(first, size)}, core::Dtype::float32, core::Category::other)};
  encode_int8(device.queue(), tensor(device, values), content, first, key, e.codes, e.scales);
  return e;
}

Floats decode(core::Device& device, const Encoded& e, Content content, std::int64_t first) {
  const core::Tensor to = core::Tensor::empty(device, {e.codes.size()}, core::Dtype::float32, core::Category::other);
  decode_int8(device.queue(), e.codes, e.scales, content, first, to);
  return values_of(to);
}

double level(Content content, int k) { return content == Content::moment ? std::pow(k / 127.0, 2) : std::pow(k / 255.0, 4); }
int highest(Content content) { return content == Content::moment ? 127 : 255; }

// The largest magnitude of each element's block.
Floats largest_of_blocks(const Floats& values, std::int64_t first) {
  Floats largest(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = 0; j < values.size(); ++j)
      if ((first + std::int64_t(i)) / kStateBlock == (first + std::int64_t(j)) / kStateBlock)
        largest[i] = std::max(largest[i], std::fabs(values[j]));
  return largest;
}

class StateCodec : public testing::Test {
 protected:
  TestDevice device = make_test_device(2);
};

}  // namespace

TEST_F(StateCodec, NearestIsTheNearestLevel) {
  for (const Content content : kContents)
    for (const std::int64_t first : kFirsts) {
      const Floats values = sample(content, 3), largest = largest_of_blocks(values, first);
      const Floats got = decode(*device, encode(*device, values, content, first, {}), content, first);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double m = largest[i], ratio = std::fabs(values[i]) / m;
        int best = 0;
        for (int k = 0; k <= highest(content); ++k)
          if (std::fabs(level(content, k) - ratio) < std::fabs(level(content, best) - ratio)) best = k;
        if (content == Content::second_moment && values[i] > 0) best = std::max(best, 1);
        const double nearest = std::copysign(m * level(content, best), values[i]);
        // Two levels may be as near as float32 can tell; each is computed with three roundings.
        const double tie = std::fabs(std::fabs(got[i] - values[i]) - std::fabs(nearest - values[i]));
        ASSERT_LE(tie, 4 * 0x1p-24 * std::max(m * ratio, std::fabs(nearest)) + 0x1p-149)
            << i << " " << values[i] << " " << got[i] << " " << nearest;
      }
    }
}

// The error of an element is at most half a step: M(√r/127 + 1/(2·127²)) for x = rM, and for √v the same with 255.
TEST_F(StateCodec, TheErrorIsThatOfTheFormula) {
  for (const Content content : kContents) {
    const Floats values = sample(content, 4), largest = largest_of_blocks(values, 0);
    const Floats got = decode(*device, encode(*device, values, content, 0, {}), content, 0);
    const bool squares = content == Content::second_moment;
    const double levels = highest(content);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto value = [&](double x) { return squares ? std::sqrt(x) : x; };
      const double m = value(largest[i]), ratio = value(std::fabs(values[i])) / m;
      const double half = std::sqrt(ratio) / levels + 0.5 / (levels * levels);
      // Of two levels of v the middle is above that of √v, by no more than a third of a step at k = 1, less above.
      const double bound = squares ? std::max(half * 1.7, 1 / (levels * levels)) : half;
      ASSERT_LE(std::fabs(value(std::fabs(got[i])) - value(std::fabs(values[i]))), m * (bound + 1e-6)) << i;
      ASSERT_EQ(got[i] < 0, values[i] < 0 && got[i] != 0);
    }
  }
}

TEST_F(StateCodec, StochasticTakesTheUpperLevelByTheDrawOfItsElement) {
  for (const Content content : kContents)
    for (const std::int64_t first : kFirsts) {
      const Floats values = sample(content, 6), largest = largest_of_blocks(values, first);
      const Floats got = decode(*device, encode(*device, values, content, first, {kKey, 9, true}), content, first);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double m = largest[i], ratio = std::fabs(values[i]) / m;
        int below = 0;
        while (below + 1 < highest(content) && level(content, below + 1) <= ratio) ++below;
        const double low = level(content, below), step = level(content, below + 1) - low;
        const auto place = static_cast<std::uint64_t>(first + std::int64_t(i));
        const double draw = std::floor(core::philox(kKey, 9, place / 4).v[place % 4] / 512.0) * 0x1p-23;
        const double share = (ratio - low) / step;
        if (std::fabs(draw - share) < 1e-4) continue;  // float32 may see it otherwise
        int k = draw < share ? below + 1 : below;
        if (content == Content::second_moment && values[i] > 0) k = std::max(k, 1);
        const double wanted = m * level(content, k);
        ASSERT_NEAR(std::fabs(got[i]), wanted, 4 * 0x1p-24 * wanted + 0x1p-149) << i << " of " << first;
      }
    }
}

// Over many steps, to five standard deviations of the mean of draws between two levels.
TEST_F(StateCodec, StochasticIsExactInTheMean) {
  constexpr int kDraws = 2000;
  for (const Content content : kContents) {
    const Floats values = sample(content, 7, 512), largest = largest_of_blocks(values, 0);
    std::vector<double> sums(values.size());
    for (int s = 0; s < kDraws; ++s) {
      const Floats got = decode(*device, encode(*device, values, content, 0, {kKey, std::uint64_t(s), true}), content, 0);
      for (std::size_t i = 0; i < got.size(); ++i) sums[i] += got[i];
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double m = largest[i], ratio = std::fabs(values[i]) / m;
      if (content == Content::second_moment && ratio < level(content, 1)) continue;
      int below = 0;
      while (below + 1 < highest(content) && level(content, below + 1) <= ratio) ++below;
      const double step = level(content, below + 1) - level(content, below);
      ASSERT_NEAR(sums[i] / kDraws, values[i], m * (5 * step / 2 / std::sqrt(kDraws) + 1e-6)) << i;
    }
  }
}

TEST_F(StateCodec, SecondMomentsThatAreNotZeroDoNotBecomeZero) {
  const Floats values = {1, 1e-12f, 1e-30f, 0, 1e-38f, 1e-45f};
  for (const bool stochastic : {false, true}) {
    const Floats got = decode(*device, encode(*device, values, Content::second_moment, 0, {kKey, 1, stochastic}),
                              Content::second_moment, 0);
    for (std::size_t i = 1; i < values.size(); ++i) EXPECT_FLOAT_EQ(got[i], values[i] > 0 ? 1 / std::pow(255.0f, 4.0f) : 0);
  }
}

// What a checkpoint holds is encoded as what it was, however it had been rounded.
TEST_F(StateCodec, WhatWasDecodedIsEncodedAsItWas) {
  for (const Content content : kContents)
    for (const float unit : {1.0f, 1e30f, 1e-30f, 1e-36f, 1e-42f})  // of the last two much is subnormal
      for (const bool stochastic : {false, true}) {
        Floats values = sample(content, 8);
        for (float& x : values) x *= unit;
        const Floats once = decode(*device, encode(*device, values, content, 13, {kKey, 2, stochastic}), content, 13);
        const Floats twice = decode(*device, encode(*device, once, content, 13, {}), content, 13);
        ASSERT_EQ(once, twice) << unit;
      }
}

TEST_F(StateCodec, ABlockWithWhatIsNotFiniteIsNaNAndOthersAreNot) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), NAN})
    for (const Content content : kContents) {
      Floats values(3 * kStateBlock, 0.5f);
      values[kStateBlock + 7] = bad;
      const Floats got = decode(*device, encode(*device, values, content, 0, {kKey, 1, true}), content, 0);
      for (std::int64_t i = 0; i < std::ssize(got); ++i)
        ASSERT_EQ(std::isnan(got[std::size_t(i)]), i / kStateBlock == 1) << i;
    }
}

TEST_F(StateCodec, Bfloat16IsOneOfTwoNeighbours) {
  Floats values = sample(Content::moment, 9);
  values[3] = NAN;
  values[4] = std::numeric_limits<float>::infinity();
  for (const std::int64_t first : kFirsts) {
    const core::Tensor codes = core::Tensor::empty(*device, {kSize}, core::Dtype::bfloat16, core::Category::other);
    const core::Tensor to = core::Tensor::empty(*device, {kSize}, core::Dtype::float32, core::Category::other);
    encode_bfloat16(device->queue(), tensor(*device, values), first, {kKey, 4, false}, codes);
    decode_bfloat16(device->queue(), codes, to);
    const Floats nearest = values_of(to);
    encode_bfloat16(device->queue(), tensor(*device, values), first, {kKey, 4, true}, codes);
    decode_bfloat16(device->queue(), codes, to);
    const Floats drawn = values_of(to);
    encode_bfloat16(device->queue(), to, first, {kKey, 5, true}, codes);  // what is a bfloat16 stays it
    decode_bfloat16(device->queue(), codes, to);
    const Floats again = values_of(to);
    ASSERT_TRUE(std::isnan(nearest[3]) && std::isnan(drawn[3]));
    for (std::size_t i = 4; i < values.size(); ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(values[i]);
      const auto place = static_cast<std::uint64_t>(first + std::int64_t(i));
      const std::uint32_t draw = core::philox(kKey, 4, place / 4).v[place % 4] & 0xffff;
      const std::uint32_t kept = ((bits & 0xffff) + draw > 0xffff ? 0x10000u : 0u) + (bits & 0xffff0000u);
      ASSERT_EQ(nearest[i], float(core::bfloat16(values[i])));
      ASSERT_EQ(drawn[i], std::bit_cast<float>(kept)) << i << " of " << first;
      ASSERT_EQ(again[i], drawn[i]);
    }
  }
}

// v <- 0.999 v, beside an element that stays: half a step is more than a thousandth.
TEST_F(StateCodec, RoundedToNearestASlowAverageStandsStill) {
  constexpr int kSteps = 700;
  for (const StateDtype dtype : {StateDtype::bfloat16, StateDtype::int8})
    for (const bool stochastic : {false, true}) {
      Floats start(8 * kStateBlock, 0.2f);
      for (std::size_t i = 0; i < start.size(); i += kStateBlock) start[i] = 1;
      const StoredState state(*device, {dtype, Content::second_moment, stochastic}, "p/v", 0, std::ssize(start), false);
      state.write(*device, start.data());
      Floats values(start.size()), first(start.size());
      state.read(*device, first.data());
      for (int step = 1; step <= kSteps; ++step) {
        state.read(*device, values.data());
        for (std::size_t i = 0; i < values.size(); ++i) values[i] *= i % kStateBlock == 0 ? 1 : 0.999f;
        state.encode(device->queue(), tensor(*device, values), step);
      }
      state.read(*device, values.data());
      double sum = 0, at_first = 0;
      for (std::size_t i = 0; i < values.size(); ++i)
        if (i % kStateBlock != 0) sum += values[i], at_first += first[i];
      const double kept = sum / at_first;
      if (!stochastic)
        EXPECT_EQ(kept, 1) << static_cast<int>(dtype);
      else  // the spread of one element is about a quarter, of the mean of 2000 half a percent
        EXPECT_NEAR(kept, std::pow(0.999, kSteps), 0.025) << static_cast<int>(dtype);
    }
}

TEST_F(StateCodec, BytesAreThoseOfTheFormula) {
  EXPECT_EQ(stored_bytes({StateDtype::int8, Content::exact}, 3, 1000), 4000);
  EXPECT_EQ(stored_bytes({StateDtype::float32, Content::moment}, 3, 1000), 4000);
  EXPECT_EQ(stored_bytes({StateDtype::bfloat16, Content::moment}, 3, 1000), 2000);
  EXPECT_EQ(stored_bytes(int8(Content::moment), 0, 1024), 1024 + 4 * 4);
  EXPECT_EQ(stored_bytes(int8(Content::moment), 255, 2), 2 + 4 * 2);
  EXPECT_EQ(stored_bytes(int8(Content::moment), 77, 0), 0);
  EXPECT_EQ(stored_bytes_per_element(int8(Content::second_moment)), 1 + 4.0 / 256);
}

// Two pieces, whose border is a block's: as one, and no more memory than said.
TEST_F(StateCodec, LargeStatesAreComputedOnInPieces) {
  constexpr std::int64_t kFirst = 77, kLarge = core::kOffloadPiece + 1000;
  for (const bool in_host_memory : on_gpu() ? std::vector<bool>{false, true} : std::vector<bool>{false}) {
    const StoredState moment(*device, int8(Content::moment, true), "p/m", kFirst, kLarge, in_host_memory);
    const StoredState square(*device, {StateDtype::bfloat16, Content::second_moment, true}, "p/v", kFirst, kLarge,
                             in_host_memory);
    const StoredState exact(*device, {StateDtype::int8, Content::exact, true}, "p/average", kFirst, kLarge, in_host_memory);
    const std::vector<StoredState> states = {moment, square, exact};
    const core::Tensor master =
        core::zeros_in(in_host_memory, *device, {kLarge}, core::Dtype::float32, core::Category::optimizer);
    const Storage storages[] = {moment.storage(), square.storage(), exact.storage()};
    const std::int64_t held = device->allocator()->use().of(core::Category::optimizer);
    device->allocator()->reset_peak();
    int pieces = 0;
    compute_on_states(*device, {master}, states, kLarge, 6,
                      [&](std::int64_t begin, std::int64_t count, std::span<const core::Tensor> t) {
                        ++pieces;
                        ASSERT_EQ(t.size(), 4u);
                        Floats x(static_cast<std::size_t>(count));
                        for (std::int64_t i = 0; i < count; ++i) x[std::size_t(i)] = float((begin + i) % 1021) / 64;
                        for (const core::Tensor& of : t) set_values(of, x);
                      });
    EXPECT_EQ(pieces, 2);
    EXPECT_EQ(device->allocator()->use().peak_of(core::Category::optimizer) - held,
              state_workspace_bytes(1, storages, kFirst, kLarge, in_host_memory));
    Floats x(static_cast<std::size_t>(kLarge)), got(x.size()), wanted(x.size());
    for (std::int64_t i = 0; i < kLarge; ++i) x[std::size_t(i)] = float(i % 1021) / 64;
    const core::Tensor whole = tensor(*device, x);
    for (const StoredState& state : {moment, square}) {
      const StoredState alone(*device, state.storage(), state.name(), kFirst, kLarge, false);
      alone.encode(device->queue(), whole, 6);
      alone.read(*device, wanted.data());
      state.read(*device, got.data());
      EXPECT_EQ(got, wanted) << state.name();
    }
    exact.read(*device, got.data());
    EXPECT_EQ(got, x);
    EXPECT_EQ(values_of(master), x);
  }
}
