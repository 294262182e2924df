// The matrix step with the recurrences that ship, against float64 decompositions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "optim/plan/config.h"
#include "optim/rules/spectral_step.h"
#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;
using testing::HasSubstr;

namespace {

class Methods : public testing::Test {
 protected:
  test::TestDevice device = test::make_test_device(1);

  static SpectralStep make(const std::string& method, const std::string& p, ShapeScale scale) {
    Muonp rule;
    rule.method = method;
    return SpectralStep(spectral::make_spectral_power(rule.spectral_options(p, core::DeviceKind::cpu)), scale);
  }

  Doubles update(SpectralStep& step, const Doubles& n, std::int64_t rows, std::int64_t cols) {
    const core::Tensor in = tensor(*device, n), out = tensor(*device, Doubles(n.size(), NAN));
    step.compute(*device, 1, std::vector<MatrixInput>{{.name = "w", .shape = {rows, cols}, .in = in, .out = out}});
    return doubles(out);
  }
};

Doubles scaled(Doubles a, double c) {
  for (double& value : a) value *= c;
  return a;
}

}  // namespace

TEST_F(Methods, UpdatesAreThoseOfTheExactPowerToTheirAccuracy) {
  struct Case {
    std::string method, p;
    double tolerance;  // of ‖U − exact‖/‖exact‖ on a Gaussian matrix 2:1, whose σ lie in a factor of 6
  };
  for (const Case& c : {Case{"coupled_minimax", "1/2", 0.01},
                        {"coupled_minimax", "1/3", 0.01},
                        {"coupled_minimax", "-1/4", 0.01},
                        {"coupled_minimax", "0", 0.02},
                        {"polar_express", "0", 0.05},
                        {"newton_schulz5", "0", 0.4},
                        {"coupled_newton", "1/2", 0.03},
                        {"svd", "1/2", 1e-5},
                        {"svd", "1/3", 1e-5}})
    for (const auto& [rows, cols] : {std::pair(48l, 24l), {24l, 48l}}) {
      SpectralStep step = make(c.method, c.p, ShapeScale::match_rms);
      const Doubles n = random(rows * cols, 12);
      const double p = spectral::parse_exponent(c.p).value();
      Doubles exact = spectral_power(n, rows, cols, p);
      exact = scaled(exact, 0.2 * std::sqrt(static_cast<double>(rows * cols)) / norm(exact));
      EXPECT_LT(relative_difference(update(step, n, rows, cols), exact), c.tolerance) << c.method << " " << c.p;
    }
}

TEST_F(Methods, Pitfall10_TheUpdateDoesNotSeeTheSizeOfTheGradient) {
  const Doubles n = random(40 * 24, 13);
  for (const auto& [method, p] : {std::pair("coupled_minimax", "1/2"),
                                  {"coupled_minimax", "0"},
                                  {"coupled_minimax", "-1/4"},
                                  {"newton_schulz5", "0"},
                                  {"polar_express", "0"},
                                  {"bivariate", "1/3"},
                                  {"coupled_newton", "1/4"},
                                  {"svd", "3/4"}})
    for (const ShapeScale scale : {ShapeScale::match_rms, ShapeScale::spectral, ShapeScale::rms1}) {
      SpectralStep step = make(method, p, scale);
      const Doubles one = update(step, n, 40, 24);
      // A power of two changes no digit. Other factors round the gradient anew, and the recurrences enlarge
      // that rounding where they raise small singular values; it stays within the error that they are
      // designed for.
      for (const double c : {0x1p-20, 0x1p-40, 0x1p40})
        EXPECT_LT(relative_difference(update(step, scaled(n, c), 40, 24), one), 1e-6) << method << p << " " << c;
      for (const double c : {1e-6, 1e-12, 1e12})
        EXPECT_LT(relative_difference(update(step, scaled(n, c), 40, 24), one), 0.01) << method << p << " " << c;
    }
}

TEST_F(Methods, Pitfall11_AZeroGradientGivesAZeroUpdate) {
  for (const auto& [method, p] : {std::pair("coupled_minimax", "1/2"),
                                  {"coupled_minimax", "-1/2"},
                                  {"newton_schulz5", "0"},
                                  {"polar_express", "0"},
                                  {"bivariate", "1/3"},
                                  {"coupled_newton", "1/2"},
                                  {"svd", "-1/4"}}) {
    SpectralStep step = make(method, p, ShapeScale::match_rms);
    EXPECT_EQ(update(step, Doubles(15, 0.0), 5, 3), Doubles(15, 0.0)) << method << p;
  }
}

TEST_F(Methods, Pitfall15_BivariateOnANearlyRankOneGradientIsNamed) {
  // One singular value holds 0.9 of the Frobenius norm, where the published coefficients at p = 1/2 diverge.
  Svd d = svd(random(16 * 16, 14), 16, 16);
  Doubles s(16, std::sqrt((1 - 0.9 * 0.9) / 15));
  s[0] = 0.9;
  SpectralStep step = make("bivariate", "1/2", ShapeScale::match_rms);
  const core::Tensor in = tensor(*device, compose(d, s)), out = tensor(*device, Doubles(256, 0.0));
  const std::vector<MatrixInput> inputs = {{.name = "blocks.3.mlp.up.weight", .shape = {16, 16}, .in = in, .out = out}};
  try {
    step.compute(*device, 1, inputs);
    FAIL() << "the update was accepted";
  } catch (const core::Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("parameter blocks.3.mlp.up.weight: "));
  }
}

TEST_F(Methods, Pitfall08_OneRowAndOneColumnMatricesWork) {
  const Doubles n = random(7, 15);
  const Doubles expected = scaled(n, 0.2 * std::sqrt(7.0) / norm(n));
  for (const auto& [method, p] : {std::pair("coupled_minimax", "1/2"), {"newton_schulz5", "0"}, {"svd", "1/2"}})
    for (const auto& [rows, cols] : {std::pair(1l, 7l), {7l, 1l}}) {
      SpectralStep step = make(method, p, ShapeScale::match_rms);
      EXPECT_LT(relative_difference(update(step, n, rows, cols), expected), 1e-5) << method;
    }
}

TEST_F(Methods, Pitfall20_ABatchEqualsItsMatricesToRounding) {
  const std::int64_t rows = 20, cols = 12, n = rows * cols;
  const Doubles all = random(3 * n, 16);
  SpectralStep step = make("coupled_minimax", "1/2", ShapeScale::match_rms);
  const core::Tensor in = tensor(*device, all), out = tensor(*device, Doubles(3 * n, 0.0));
  step.compute(*device, 1, std::vector<MatrixInput>{{.name = "w", .shape = {3, rows, cols}, .in = in, .out = out}});
  for (std::int64_t i = 0; i < 3; ++i)
    EXPECT_LT(relative_difference(update(step, {all.begin() + i * n, all.begin() + (i + 1) * n}, rows, cols),
                                  doubles(out.flat(i * n, n))),
              1e-5);
}
