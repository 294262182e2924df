#include "launch/bench/singular_system.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace muonp::launch {
namespace {

std::vector<float> rounded(const std::vector<double>& x) { return {x.begin(), x.end()}; }

double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void expect_orthonormal(const std::vector<double>& vectors, std::int64_t length, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t j = 0; j <= i; ++j)
      EXPECT_NEAR(dot(&vectors[i * length], &vectors[j * length], length), i == j ? 1 : 0, 1e-13);
}

class Shapes : public ::testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};

TEST_P(Shapes, RandomSystemIsOrthonormalAndGeometric) {
  const auto [rows, cols] = GetParam();
  const SingularSystem s = random_singular_system(rows, cols, 1e-3, 5);
  ASSERT_EQ(s.size(), std::min(rows, cols));
  expect_orthonormal(s.u, rows, s.size());
  expect_orthonormal(s.v, cols, s.size());
  EXPECT_EQ(s.sigma.front(), 1);
  if (s.size() > 1) {
    EXPECT_NEAR(s.sigma.back(), 1e-3, 1e-15);
  }
}

TEST_P(Shapes, DecompositionFindsTheSystemAgain) {
  const auto [rows, cols] = GetParam();
  const SingularSystem made = random_singular_system(rows, cols, 1e-2, 7);
  const std::vector<double> g = power_of(made, 1);
  const SingularSystem found = singular_system_of(rounded(g).data(), rows, cols);
  expect_orthonormal(found.u, rows, found.size());
  expect_orthonormal(found.v, cols, found.size());
  for (std::size_t i = 0; i < found.sigma.size(); ++i) EXPECT_NEAR(found.sigma[i], made.sigma[i], 1e-6);
  const std::vector<double> again = power_of(found, 1);
  for (std::size_t i = 0; i < g.size(); ++i) EXPECT_NEAR(again[i], g[i], 1e-7);
}

TEST_P(Shapes, ExactPowerHasNoError) {
  const auto [rows, cols] = GetParam();
  const SingularSystem s = random_singular_system(rows, cols, 1e-2, 3);
  for (const double p : {1.0, 0.5, 0.0, -0.25}) {
    const SpectralErrors errors = measure_errors(s, rounded(power_of(s, p)).data(), p, 0);
    EXPECT_EQ(errors.counted, s.size());
    EXPECT_LT(errors.worst, 1e-4);  // float32 rounding of Z over the smallest σᵖ
    EXPECT_LT(errors.frobenius, 1e-7);
  }
}

INSTANTIATE_TEST_SUITE_P(TallWideSquare, Shapes,
                         ::testing::Values(std::pair{17, 9}, std::pair{9, 17}, std::pair{12, 12}, std::pair{1, 5},
                                           std::pair{5, 1}, std::pair{1, 1}));

TEST(SpectralErrors, KnownErrorsAreFound) {
  SingularSystem s = random_singular_system(10, 6, 0.1, 1);
  SingularSystem off = s;
  off.sigma[2] *= 1.03;  // σ_2^1 is 3 % too large
  const SpectralErrors errors = measure_errors(s, rounded(power_of(off, 1)).data(), 1, 0);
  EXPECT_NEAR(errors.worst, 0.03, 1e-5);
  double total = 0;
  for (const double sigma : s.sigma) total += sigma * sigma;
  EXPECT_NEAR(errors.frobenius, 0.03 * s.sigma[2] / std::sqrt(total), 1e-6);
}

TEST(SpectralErrors, SmallSingularValuesAreNotCounted) {
  SingularSystem s = random_singular_system(8, 8, 1e-2, 2);
  SingularSystem off = s;
  off.sigma.back() *= 2;
  EXPECT_EQ(measure_errors(s, rounded(power_of(off, 1)).data(), 1, 0.5).counted, 2);  // 1 and 0.518
  EXPECT_LT(measure_errors(s, rounded(power_of(off, 1)).data(), 1, 0.5).worst, 1e-6);
  EXPECT_TRUE(std::isnan(measure_errors(s, rounded(power_of(off, 1)).data(), 1, 2).worst));
}

TEST(SpectralErrors, ZeroSingularValuesStayZero) {
  const std::vector<float> rank_one = {2, 0, 0, 0};
  const SingularSystem s = singular_system_of(rank_one.data(), 2, 2);
  for (const double p : {0.5, 0.0, -0.5}) {
    const std::vector<double> z = power_of(s, p);
    EXPECT_NEAR(z[0], std::pow(2, p), 1e-12);
    EXPECT_EQ(z[3], 0);
  }
  const std::vector<float> zero(4);
  EXPECT_EQ(measure_errors(singular_system_of(zero.data(), 2, 2), zero.data(), 0, 0).frobenius, 0);
}

}  // namespace
}  // namespace muonp::launch
