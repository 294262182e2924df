// The published scalings at points where they can be told by hand; tests/models/llama/llama_reference_test.cpp has whole
// models with them.
#include "models/layers/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace muonp::models::testing {
namespace {

constexpr std::int64_t kSize = 64, kContext = 4096;

RopeFrequencies of(RopeConfig c, std::int64_t time = 16) { return rope_frequencies(c, kSize, kContext, time); }
double plain(std::size_t i, double theta = 10000) { return std::pow(theta, -2.0 * double(i) / double(kSize)); }
// Turns of a frequency within so many positions.
double turns(double frequency, double positions) { return positions * frequency / (2 * std::numbers::pi); }

}  // namespace

TEST(Rope, DefaultAndLinear) {
  const RopeFrequencies usual = of({}), linear = of({.kind = "linear", .factor = 4});
  ASSERT_EQ(usual.frequencies.size(), 32u);
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_DOUBLE_EQ(usual.frequencies[i], plain(i));
    EXPECT_DOUBLE_EQ(linear.frequencies[i], plain(i) / 4);
  }
  EXPECT_EQ(usual.scale, 1);
  EXPECT_EQ(linear.scale, 1);
}

// The lowest frequency turns as far over a sequence of 2 original contexts as it did over one, stretched by factor 2·2 - 1.
TEST(Rope, DynamicStretchesWithTheSequence) {
  const RopeConfig c = {.kind = "dynamic", .factor = 2, .original_context = 100};
  EXPECT_EQ(of(c, 100).frequencies, of({}).frequencies);
  EXPECT_NEAR(of(c, 200).frequencies.back(), plain(31) / std::pow(3, 62.0 / 62), 1e-12);
  EXPECT_DOUBLE_EQ(of(c, 200).frequencies.front(), 1);
}

TEST(Rope, Llama3KeepsHighFrequenciesAndDividesLowOnes) {
  const RopeConfig c = {.kind = "llama3", .theta = 500000, .factor = 8, .original_context = 1024};
  const RopeFrequencies f = of(c);
  int kept = 0, divided = 0;
  for (std::size_t i = 0; i < 32; ++i) {
    const double usual = plain(i, 500000), t = turns(usual, 1024);
    const double share = t >= 4 ? 1 : t <= 1 ? 0 : (t - 1) / 3;
    EXPECT_DOUBLE_EQ(f.frequencies[i], share * usual + (1 - share) * usual / 8);
    kept += share == 1;
    divided += share == 0;
  }
  EXPECT_GT(kept, 5);
  EXPECT_GT(divided, 5);
}

TEST(Rope, YarnBlendsByPairsAndScales) {
  RopeConfig c = {.kind = "yarn", .factor = 16, .original_context = 1024};
  const RopeFrequencies f = of(c);
  for (std::size_t i = 0; i < 32; ++i) {
    const double t = turns(plain(i), 1024);
    if (t > 32 * 1.4) {
      EXPECT_DOUBLE_EQ(f.frequencies[i], plain(i));
    }
    if (t < 1 / 1.4) {
      EXPECT_DOUBLE_EQ(f.frequencies[i], plain(i) / 16);
    }
  }
  EXPECT_DOUBLE_EQ(f.scale, 0.1 * std::log(16) + 1);
  c.mscale = 2;
  EXPECT_DOUBLE_EQ(of(c).scale, 0.1 * std::log(16) + 1);  // both or none
  c.mscale_all_dim = 0.5;
  EXPECT_DOUBLE_EQ(of(c).scale, (0.2 * std::log(16) + 1) / (0.05 * std::log(16) + 1));
  c.attention_factor = 1.5;
  EXPECT_DOUBLE_EQ(of(c).scale, 1.5);
}

}  // namespace muonp::models::testing
