// coupled_minimax and svd against decompositions in double precision.
#include <gtest/gtest.h>

#include "optim/spectral/spectral_power.h"
#include "tests/optim/spectral/spectral_reference.h"

using namespace muonp;
using namespace muonp::optim::spectral;
using namespace muonp::test;

namespace {

SpectralOptions options(const std::string& p, const std::string& method = "coupled_minimax") {
  SpectralOptions o;
  o.method = method;
  o.p = parse_exponent(p);
  return o;
}

// What the project promises for σ ≥ 10⁻³·σ_max: 1 %, and 2 % at p = 0.
double promised(const SpectralOptions& o) { return o.p.numerator == 0 ? 0.02 : 0.01; }

const char* const kExponents[] = {"0", "1/4", "1/3", "1/2", "2/3", "3/4", "1", "-1/4", "-1/2", "7/8", "1/16", "13/15"};

}  // namespace

class Accuracy : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Spectra, Accuracy,
                         testing::Values("gaussian", "geometric", "harmonic", "linear", "two values", "flat", "low rank"),
                         [](const auto& p) {
                           std::string name = p.param;
                           std::erase(name, ' ');
                           return name;
                         });

TEST_P(Accuracy, EverySingularValueIsWithinThePromise) {
  auto device = test::make_test_device(1);
  for (auto [rows, cols] : {std::array<std::int64_t, 2>{96, 96}, {160, 64}, {64, 160}, {100, 70}}) {
    const Factors f = known_factors(GetParam(), rows, cols);
    const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
    for (const char* p : kExponents) {
      const SpectralOptions o = options(p);
      const SpectralReport report = make_spectral_power(o)->apply(*device, g, z);
      const Errors errors = errors_of(z, f, o.p.value());
      EXPECT_LE(errors.singular_value, promised(o)) << rows << "x" << cols << ", p = " << p;
      EXPECT_LE(report.predicted_error, o.tolerance) << p;
      // Rounding adds to the design's error: 2^-24 of σ_max is 2^-24/ε of the smallest singular value that counts, and
      // the products of all steps add up: 88 of it was seen at p = 0, in a build whose sums are not vectorised.
      const double rounding = (o.p.numerator < 0 ? 168 : 128) * 0x1p-24 / 1e-3;
      EXPECT_LE(errors.singular_value, report.predicted_error + rounding) << rows << "x" << cols << ", p = " << p;
      // Singular values of 0 and below ε hold rounding, raised by up to ε^(p−1).
      const bool all_above_epsilon = f.s.back() >= 1e-3 * (1 - 1e-9);
      if (all_above_epsilon) {
        EXPECT_LE(errors.frobenius, 0.04) << rows << "x" << cols << ", p = " << p;
      }
      EXPECT_GE(report.scale[0], f.s[0] * (1 - 1e-5));
    }
  }
}

TEST(CoupledMinimax, OneRowAndOneColumn) {
  auto device = test::make_test_device(1);
  for (auto [rows, cols] : {std::array<std::int64_t, 2>{1, 1}, {1, 50}, {50, 1}, {2, 3}, {3, 2}}) {
    const Factors f = known_factors("gaussian", rows, cols);
    const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
    for (const char* p : kExponents) {
      make_spectral_power(options(p))->apply(*device, g, z);
      EXPECT_LE(errors_of(z, f, parse_exponent(p).value()).frobenius, 0.01) << rows << "x" << cols << ", p = " << p;
    }
  }
}

TEST(CoupledMinimax, TighterTolerancesAreReached) {
  auto device = test::make_test_device(1);
  const Factors f = known_factors("geometric", 96, 96);
  const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
  for (const char* p : {"1/4", "1/2", "3/4"})
    for (double tolerance : {0.1, 0.01, 0.002}) {
      SpectralOptions o = options(p);
      o.tolerance = tolerance;
      const SpectralReport report = make_spectral_power(o)->apply(*device, g, z);
      EXPECT_LE(report.predicted_error, tolerance);
      EXPECT_LE(errors_of(z, f, o.p.value()).singular_value, tolerance + 1e-3) << p;
    }
}

TEST(CoupledMinimax, SmallerEpsilonReachesSmallerSingularValues) {
  auto device = test::make_test_device(1);
  Factors f = known_factors("flat", 64, 64);
  for (std::size_t i = 0; i < f.s.size(); ++i) f.s[i] = std::pow(1e-2, static_cast<double>(i) / 63);
  const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
  SpectralOptions o = options("1/2");
  o.epsilon = 1e-2;
  const SpectralReport coarse = make_spectral_power(o)->apply(*device, g, z);
  EXPECT_LE(errors_of(z, f, 0.5, 1e-2).singular_value, 0.01);
  o.epsilon = 1e-3;
  EXPECT_LT(coarse.flops, make_spectral_power(o)->apply(*device, g, z).flops);
}

// Below ε the result is smaller than σᵖ, and grows with σ.
TEST(CoupledMinimax, SingularValuesBelowEpsilonComeOutSmallAndMonotone) {
  auto device = test::make_test_device(1);
  Factors f = known_factors("flat", 48, 48);
  for (std::size_t i = 0; i < f.s.size(); ++i) f.s[i] = std::pow(10.0, -5.0 * static_cast<double>(i) / 47);
  const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
  make_spectral_power(options("1/2"))->apply(*device, g, z);
  Dense out(48, 48);
  const std::vector<float> values = values_of(z);
  out.values.assign(values.begin(), values.end());
  double before = 1e9;
  for (std::int64_t k = 0; k < 48; ++k) {
    double value = 0;
    for (std::int64_t r = 0; r < 48; ++r)
      for (std::int64_t c = 0; c < 48; ++c) value += f.u(r, k) * out(r, c) * f.v(c, k);
    const double sigma = f.s[static_cast<std::size_t>(k)];
    EXPECT_LE(value, 1.01 * std::sqrt(sigma) + 1e-4);
    EXPECT_GE(value, -1e-3);
    EXPECT_LE(value, before + 1e-3);
    before = value;
  }
}

TEST(CoupledMinimax, ThreadsAgree) {
  auto one = test::make_cpu_test_device(1), two = test::make_cpu_test_device(2);
  const Factors f = known_factors("geometric", 200, 130);
  const core::Tensor g = to_tensor(*one, compose(f, [](double s) { return s; })), z1 = empty_like(*one, g),
                     z2 = empty_like(*one, g);
  for (const char* p : {"1/2"}) {
    make_spectral_power(options(p))->apply(*one, g, z1);
    make_spectral_power(options(p))->apply(*two, g, z2);
    EXPECT_LE(errors_of(z2, f, parse_exponent(p).value()).singular_value, promised(options(p)));
    double difference = 0, total = 0;
    const std::vector<float> a = values_of(z1), b = values_of(z2);
    for (std::size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(a[i] - b[i], 2);
      total += std::pow(a[i], 2);
    }
    EXPECT_LE(std::sqrt(difference / total), 5e-3) << p;
  }
}

// The oracle that users can ask for, itself against double precision. sgesdd's error is a few roundings of
// σ_max.
TEST(Svd, EqualsDoublePrecision) {
  auto device = test::make_test_device(1);
  for (const char* kind : {"gaussian", "geometric", "low rank"})
    for (auto [rows, cols] : {std::array<std::int64_t, 2>{64, 64}, {120, 40}, {40, 120}, {1, 7}, {7, 1}}) {
      const Factors f = known_factors(kind, rows, cols);
      const core::Tensor g = to_tensor(*device, compose(f, [](double s) { return s; })), z = empty_like(*device, g);
      for (const char* p : kExponents) {
        const SpectralOptions o = options(p, "svd");
        const SpectralReport report = make_spectral_power(o)->apply(*device, g, z);
        const double smallest = *std::min_element(
            f.s.begin(), f.s.end(), [](double a, double b) { return (a > 1e-6 ? a : 1) < (b > 1e-6 ? b : 1); });
        const double condition = f.s[0] / std::max(smallest, 1e-3 * f.s[0]);
        EXPECT_LE(errors_of(z, f, o.p.value()).frobenius, 1e-6 * condition + 1e-5) << kind << " " << rows << ", p " << p;
        EXPECT_NEAR(report.scale[0], f.s[0], 1e-5 * f.s[0]);
      }
    }
}
