// What the papers claim of P_p(G) = U S^p V^T, as exact statements, over a thousand random matrices each.
#include <gtest/gtest.h>

#include <cmath>

#include "optim/spectral/spectral_power.h"
#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using oracle::Doubles;

namespace {

constexpr int kMatrices = 1000;
constexpr const char* kExponents[] = {"-1/2", "-1/3", "-1/8", "0", "1/8", "1/4", "1/3", "1/2", "2/3", "7/8", "1"};

struct Case {
  std::int64_t rows, cols;
  Doubles g, z;
  Doubles sigma;  // of g
  double p;
};

// Of 2 to 9 rows and columns; the singular values of Gaussian matrices, which are all above 2^-24 of the largest.
Case make(int i) {
  Case c{2 + i % 8, 2 + i / 8 % 8, {}, {}, {}, 0};
  const std::string_view exponent = kExponents[static_cast<std::size_t>(i) % std::size(kExponents)];
  c.g = oracle::random(c.rows * c.cols, static_cast<std::uint64_t>(1000 + i));
  c.p = spectral::parse_exponent(exponent).value();
  const auto power = spectral::make_spectral_power({.method = "svd", .p = spectral::parse_exponent(exponent)});
  const test::TestDevice device = test::make_test_device(1);
  const auto tensor = [&] {
    return core::Tensor::zeros(*device, {c.rows, c.cols}, core::Dtype::float32, core::Category::exchange);
  };
  const core::Tensor g = tensor(), z = tensor();
  test::set_values(g, std::vector<float>(c.g.begin(), c.g.end()));
  power->apply(*device, g, z);
  const std::vector<float> values = test::values_of(z);
  c.z.assign(values.begin(), values.end());
  c.sigma = oracle::svd(c.g, c.rows, c.cols).s;
  return c;
}

double schatten(const Doubles& sigma, double q) {
  return std::isinf(q) ? sigma.front() : std::pow(oracle::power_sum(sigma, q), 1 / q);
}

}  // namespace

// arXiv 2606.13867: Z over its own norm maximises <G, D> over the unit ball of the Schatten-(1 + 1/p) norm. Hölder's
// inequality bounds <G, D> there by the Schatten-(1 + p) norm of G, so that who reaches the bound is the maximum; and nobody
// else passes.
TEST(Claims, ASpectralPowerIsSteepestInItsSchattenBall) {
  for (int i = 0; i < kMatrices; ++i) {
    const Case c = make(i);
    if (c.p < 0) continue;  // no norm belongs to it
    const double q = c.p == 0 ? INFINITY : 1 + 1 / c.p, bound = schatten(c.sigma, 1 + c.p);
    const Doubles of_z = oracle::svd(c.z, c.rows, c.cols).s;
    const double size = schatten(of_z, q);
    // float32 rounds the entries of G and Z, of at most nine columns
    EXPECT_NEAR(oracle::dot(c.g, c.z) / size, bound, 64 * 0x1p-24 * bound) << i << ", p = " << c.p;
    Doubles other = oracle::random(c.rows * c.cols, static_cast<std::uint64_t>(5000 + i));
    for (std::size_t k = 0; k < other.size(); ++k) other[k] = c.z[k] / size + 0.3 * other[k];
    const double other_size = schatten(oracle::svd(other, c.rows, c.cols).s, q);
    EXPECT_LT(oracle::dot(c.g, other) / other_size, bound * (1 + 1e-12)) << i << ", p = " << c.p;
  }
}

// arXiv 2605.13079: on a quadratic of curvature L a step eta Z descends exactly where
// eta < (2/L) sum sigma^(1+p) / sum sigma^(2p), with sigma those of its gradient G: here L/2 |W|^2 at W = G/L.
TEST(Claims, AStepDescendsExactlyBelowTheStableOne) {
  constexpr double kCurvature = 3;
  for (int i = 0; i < kMatrices; ++i) {
    const Case c = make(i);
    const double stable = 2 / kCurvature * oracle::power_sum(c.sigma, 1 + c.p) / oracle::power_sum(c.sigma, 2 * c.p);
    const auto change = [&](double eta) {
      double after = 0, before = 0;
      for (std::size_t k = 0; k < c.g.size(); ++k) {
        const double w = c.g[k] / kCurvature, moved = w - eta * c.z[k];
        before += w * w;
        after += moved * moved;
      }
      return after - before;
    };
    EXPECT_LT(change(0.999 * stable), 0) << i << ", p = " << c.p;
    EXPECT_GT(change(1.001 * stable), 0) << i << ", p = " << c.p;
  }
}
