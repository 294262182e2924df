#include "core/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/autograd/parameter.h"

using namespace muonp::core;

// Known answers of Philox4x32-10 from the paper's reference implementation (Random123).
TEST(Philox, KnownAnswers) {
  const Random4 zero = philox(0, 0, 0);
  EXPECT_EQ(zero.v[0], 0x6627e8d5u);
  EXPECT_EQ(zero.v[1], 0xe169c58du);
  EXPECT_EQ(zero.v[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.v[3], 0x9b00dbd8u);
  const Random4 ones = philox(~0ull, ~0ull, ~0ull);
  EXPECT_EQ(ones.v[0], 0x408f276du);
  EXPECT_EQ(ones.v[1], 0x41c83b0eu);
  EXPECT_EQ(ones.v[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.v[3], 0x6d5451fdu);
}

TEST(Philox, UniformLiesInsideTheOpenInterval) {
  EXPECT_GT(uniform_from(0), 0.0f);
  EXPECT_LT(uniform_from(~0u), 1.0f);
  for (std::uint64_t bound : {1ull, 3ull, 1000ull})
    for (std::uint64_t i = 0; i < 100; ++i) EXPECT_LT(random_below(1, 2, i, bound), bound);
}

namespace {

Parameter normal_parameter(std::string name, Shape shape) {
  Parameter p;
  p.name = std::move(name);
  p.shape = std::move(shape);
  p.init = {Initializer::Kind::normal, 0.5};
  return p;
}

std::vector<float> initial(const Parameter& p, std::uint64_t seed, std::int64_t begin, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  initialize(p, seed, begin, count, values.data());
  return values;
}

}  // namespace

TEST(Initialize, HasTheMomentsOfTheNormalDistribution) {
  constexpr std::int64_t kCount = 200000;
  const std::vector<float> x = initial(normal_parameter("w", {kCount}), 3, 0, kCount);
  double mean = 0, square = 0, fourth = 0, neighbours = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double z = x[i] / 0.5;
    mean += z / kCount;
    square += z * z / kCount;
    fourth += z * z * z * z / kCount;
    if (i > 0) neighbours += z * x[i - 1] / 0.5 / kCount;
  }
  const double deviation = 1 / std::sqrt(double(kCount));  // of the mean; √2, √96 times that of the others
  EXPECT_NEAR(mean, 0, 4 * deviation);
  EXPECT_NEAR(square, 1, 4 * std::sqrt(2.0) * deviation);
  EXPECT_NEAR(fourth, 3, 4 * std::sqrt(96.0) * deviation);
  EXPECT_NEAR(neighbours, 0, 4 * deviation);
}

TEST(Initialize, AnyPartEqualsThatPartOfTheWhole) {
  const Parameter p = normal_parameter("w", {10, 123});
  const std::vector<float> whole = initial(p, 3, 0, 1230);
  for (const std::int64_t begin : {0, 1, 255, 256, 257, 1000})
    for (const std::int64_t count : {0, 1, 3, 200}) {
      const std::vector<float> part = initial(p, 3, begin, count);
      EXPECT_EQ(part, std::vector<float>(whole.begin() + begin, whole.begin() + begin + count)) << begin << " " << count;
    }
  EXPECT_THROW(initial(p, 3, 1200, 31), InternalError);
}

TEST(Initialize, DependsOnSeedAndNameButNotOnShape) {
  const std::vector<float> x = initial(normal_parameter("w", {64}), 3, 0, 64);
  EXPECT_EQ(x, initial(normal_parameter("w", {8, 8}), 3, 0, 64));
  EXPECT_NE(x, initial(normal_parameter("v", {64}), 3, 0, 64));
  EXPECT_NE(x, initial(normal_parameter("w", {64}), 4, 0, 64));
}

TEST(Initialize, ConstantsAreConstant) {
  Parameter p;
  p.shape = {3};
  EXPECT_EQ(initial(p, 1, 0, 3), std::vector<float>(3, 0.0f));
  p.init.kind = Initializer::Kind::ones;
  EXPECT_EQ(initial(p, 1, 1, 2), std::vector<float>(2, 1.0f));
}
