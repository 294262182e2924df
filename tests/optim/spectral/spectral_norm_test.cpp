#include "optim/spectral/spectral_norm.h"

#include <gtest/gtest.h>

#include "core/base/index.h"
#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;

namespace {

double measured(const Doubles& a, std::int64_t rows, std::int64_t cols, int threads = 1) {
  auto device = test::make_test_device(threads);
  return spectral_norm(device->queue(), tensor(*device, {rows, cols}, a));
}

}  // namespace

TEST(SpectralNorm, IsWithinItsPromiseOnGaussianSpectra) {
  for (const auto& [rows, cols] : {std::pair(200l, 200l), {300l, 90l}, {65l, 260l}, {24l, 24l}}) {
    const Doubles a = random(rows * cols, 5);
    const double exact = svd(a, rows, cols).s[0], found = measured(a, rows, cols);
    EXPECT_LE(found, exact * (1 + 1e-5));
    EXPECT_GE(found, exact * (1 - 1e-3)) << rows << "x" << cols;
  }
}

TEST(SpectralNorm, IsExactOnLowRankFlatAndSmallMatrices) {
  const Doubles x = random(40, 1), y = random(30, 2);
  Doubles outer;
  for (const double a : x)
    for (const double b : y) outer.push_back(a * b);
  EXPECT_NEAR(measured(outer, 40, 30) / (norm(x) * norm(y)), 1, 1e-5);
  Doubles identity(64, 0.0);
  for (int i = 0; i < 8; ++i) identity[i * 9] = -3;
  EXPECT_NEAR(measured(identity, 8, 8), 3, 1e-5);
  EXPECT_NEAR(measured({3, 4}, 1, 2), 5, 1e-5);
  EXPECT_NEAR(measured({3, 4}, 2, 1), 5, 1e-5);
  EXPECT_NEAR(measured({-7}, 1, 1), 7, 1e-5);
}

TEST(SpectralNorm, FollowsTheScaleAndIsZeroForZero) {
  const Doubles a = random(50 * 40, 6);
  const double one = measured(a, 50, 40);
  for (const double c : {0x1p-100, 0x1p100}) {
    Doubles scaled = a;
    for (double& value : scaled) value *= c;
    EXPECT_EQ(measured(scaled, 50, 40), c * one);
  }
  EXPECT_EQ(measured(Doubles(12, 0.0), 3, 4), 0);
  EXPECT_EQ(measured({}, 0, 4), 0);
}

TEST(SpectralNorm, OfABatchIsThatOfEachMatrix) {  // of sizes far apart; a zero one, and one of rank 1, which ends early
  auto device = test::make_test_device(2);
  for (const auto& [rows, cols] : {std::pair(50l, 40l), {20l, 70l}, {1l, 5l}}) {
    Doubles all, expected;
    for (const double size : {1.0, 1e-9, 0.0, 1e9}) {
      Doubles a = random(rows * cols, 8);
      for (double& value : a) value *= size;
      expected.push_back(measured(a, rows, cols));
      all.insert(all.end(), a.begin(), a.end());
    }
    all.insert(all.end(), core::at(rows * cols), 2.0);
    expected.push_back(2 * std::sqrt(static_cast<double>(rows * cols)));
    const core::Tensor matrices = tensor(*device, {5, rows, cols}, all);
    const core::Tensor norms = spectral_norms(device->queue(), 5, {{matrices.raw(), rows, cols, cols}, rows * cols});
    Doubles found(5);
    device->queue().read(found.data(), norms.raw(), 5 * std::int64_t{sizeof(double)});
    for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(found[i], expected[i], 1e-6 * expected[i]) << rows << " " << i;
  }
}

TEST(SpectralNorm, ManyThreadsGiveTheBitsOfOne) {  // on a GPU: two runs give the same bits
  const Doubles a = random(150 * 310, 7);
  EXPECT_EQ(measured(a, 150, 310, 1), measured(a, 150, 310, 3));
}
