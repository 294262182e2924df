#include "optim/spectral/gradient_norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;

TEST(GradientNorm, WholeNumbersSumExactlyHoweverCut) {
  auto device = test::make_test_device(2);
  const std::int64_t n = 50021;
  const Doubles values = random_integers(n, 1);
  const core::Tensor t = tensor(*device, values);
  EXPECT_EQ(sum_of_squares(device->queue(), t).sum, dot(values, values));
  double pieces = 0;
  for (const auto& [begin, end] : {std::pair(0l, 1l), {1l, 4097l}, {4097l, 4097l}, {4097l, n}})
    pieces += sum_of_squares(device->queue(), t.flat(begin, end - begin)).sum;
  EXPECT_EQ(pieces, dot(values, values));
  EXPECT_EQ(inner_product(device->queue(), t, tensor(*device, random_integers(n, 2))), dot(values, random_integers(n, 2)));
}

// Of pieces at and around the size of a chunk, with empty ones and none among them: each has the sum that it has alone, and
// a piece that is not finite is named as the one.
TEST(GradientNorm, EveryPieceHasItsOwnSum) {
  auto device = test::make_test_device(2);
  std::vector<core::Tensor> pieces;
  Doubles expected;
  for (const std::int64_t n : {1, 4096, 0, 4097, -1, 8192, 12289, 5, 0}) {
    const Doubles values = random_integers(std::max<std::int64_t>(0, n), 10 + std::uint64_t(n + 1));
    pieces.push_back(n < 0 ? core::Tensor() : tensor(*device, values));
    expected.push_back(dot(values, values));
  }
  pieces.push_back(tensor(*device, {1, std::numeric_limits<double>::infinity()}));
  const std::vector<SquareSum> sums = sums_of_squares(device->queue(), pieces);
  ASSERT_EQ(sums.size(), expected.size() + 1);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(sums[i].sum, expected[i]) << "piece " << i;
    EXPECT_TRUE(sums[i].finite) << "piece " << i;
  }
  EXPECT_FALSE(sums.back().finite);
  EXPECT_TRUE(sums_of_squares(device->queue(), {}).empty());
}

TEST(GradientNorm, ManyThreadsGiveTheBitsOfOne) {  // on the CPU
  auto one = test::make_cpu_test_device(1), many = test::make_cpu_test_device(5);
  const core::Tensor t = tensor(*one, random(100003, 3));
  const double alone = sum_of_squares(one->queue(), t).sum;
  EXPECT_EQ(alone, sum_of_squares(many->queue(), t).sum);
  EXPECT_NEAR(alone, dot(doubles(t), doubles(t)), 1e-13 * alone);
}

TEST(GradientNorm, KeepsWhatFloatWouldLose) {
  auto device = test::make_test_device(1);
  EXPECT_EQ(sum_of_squares(device->queue(), tensor(*device, {0x1p-80, 0x1p-80})).sum, 0x1p-159);
  const SquareSum huge = sum_of_squares(device->queue(), tensor(*device, Doubles(1000, 0x1p127)));
  EXPECT_EQ(huge.sum, 1000 * 0x1p254);
  EXPECT_TRUE(huge.finite);
}

TEST(GradientNorm, Pitfall13_OneBadElementIsSeenAndNeverPassesTheClip) {
  auto device = test::make_test_device(2);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()})
    for (const std::int64_t at : {0, 4095, 4096, 9999}) {
      const core::Tensor t = tensor(*device, random(10000, 4));
      EXPECT_TRUE(sum_of_squares(device->queue(), t).finite);
      test::set_value(t, at, bad);
      const SquareSum squares = sum_of_squares(device->queue(), t);
      EXPECT_FALSE(squares.finite) << at;
      EXPECT_THROW(clip_scale(std::sqrt(squares.sum), 1.0), core::InternalError);
      EXPECT_THROW(clip_scale(std::sqrt(squares.sum), 0.0), core::InternalError);
    }
}

TEST(GradientNorm, EmptyPieceIsZero) {
  auto device = test::make_test_device(1);
  EXPECT_EQ(sum_of_squares(device->queue(), tensor(*device, Doubles{})).sum, 0);
}

TEST(ClipScale, BringsTheNormToTheLimit) {
  EXPECT_EQ(clip_scale(8, 2), 0.25);
  EXPECT_EQ(clip_scale(2, 2), 1);
  EXPECT_EQ(clip_scale(1, 2), 1);
  EXPECT_EQ(clip_scale(0, 2), 1);
  EXPECT_EQ(clip_scale(1e30, 0), 1);  // off
}
