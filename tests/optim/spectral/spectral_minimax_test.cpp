#include "optim/spectral/minimax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "optim/spectral/bound.h"
#include "optim/spectral/polynomial.h"
#include "optim/spectral/schedule.h"
#include "tests/reference/recurrences.h"

using namespace muonp::optim::spectral;

namespace {

double deviation(const MinimaxWeight& w, int root, double a) {
  double value = 0;
  for (std::size_t k = w.coefficients.size(); k-- > 0;) value = value * a + w.coefficients[k];
  return 1 - std::pow(a, 1.0 / root) * value;
}

// Extrema of the deviation, signed, on a fine grid that is dense at both ends.
std::vector<double> extrema(const MinimaxWeight& w, int root, double low, double high) {
  constexpr int points = 40000;
  std::vector<double> found;
  double run = 0;
  for (int i = 0; i <= points; ++i) {
    const double t = static_cast<double>(i) / points;
    const double e = deviation(w, root, std::exp(std::log(low) + t * (std::log(high) - std::log(low))));
    if (e * run < 0) {
      found.push_back(run);
      run = 0;
    }
    if (std::abs(e) > std::abs(run)) run = e;
  }
  found.push_back(run);
  return found;
}

struct Case {
  int root;
  double low, high;
  int degree;
  double error;
};

// E as a linear programme on 8000 points finds it, in another language and by another method.
const Case kCases[] = {{4, 1e-6, 1.0, 1, 0.889223756}, {4, 1e-6, 1.0, 2, 0.856196994}, {4, 1e-6, 1.0, 4, 0.809119199},
                       {2, 1e-6, 1.0, 2, 0.991529671}, {6, 1e-6, 1.0, 4, 0.616953856}, {8, 1e-4, 1.01, 2, 0.322216610},
                       {2, 0.05, 2.5, 4, 0.158523489}, {4, 0.25, 2.5, 1, 0.094584559}};

}  // namespace

TEST(Minimax, ErrorsEqualThoseOfAnIndependentSolver) {
  for (const Case& c : kCases) {
    const MinimaxWeight w = minimax_weight(c.root, c.low, c.high, c.degree);
    EXPECT_NEAR(w.error, c.error, 1e-6) << c.root << ", " << c.degree;
  }
}

// Chebyshev: a polynomial is the best one if and only if its deviation takes its largest size at degree + 2
// points with alternating signs.
TEST(Minimax, DeviationEquioscillates) {
  for (const Case& c : kCases) {
    const MinimaxWeight w = minimax_weight(c.root, c.low, c.high, c.degree);
    const std::vector<double> found = extrema(w, c.root, c.low, c.high);
    ASSERT_EQ(found.size(), static_cast<std::size_t>(c.degree) + 2);
    for (double e : found) EXPECT_NEAR(std::abs(e), w.error, 1e-5 * w.error) << c.root << ", degree " << c.degree;
  }
}

TEST(Minimax, IsScaleFree) {
  for (double factor : {1e-6, 1e3}) {
    const MinimaxWeight one = minimax_weight(4, 1e-4, 1, 2), other = minimax_weight(4, 1e-4 * factor, factor, 2);
    EXPECT_NEAR(one.error, other.error, 1e-12);
    for (std::size_t k = 0; k < 3; ++k) {
      const double scaled = other.coefficients[k] * std::pow(factor, 0.25 + static_cast<double>(k));
      EXPECT_NEAR(scaled, one.coefficients[k], 1e-8 * std::abs(one.coefficients[k]));
    }
  }
}

TEST(Minimax, ConvergesForEveryRootOnVeryWideIntervals) {
  for (int root = 2; root <= 32; ++root)
    for (int degree : {1, 2, 4, 8})
      for (double low : {1e-11, 1e-7, 1e-3, 0.1, 0.9}) {
        const MinimaxWeight w = minimax_weight(root, low, 1, degree);
        EXPECT_GT(w.error, 0);
        EXPECT_LT(w.error, 1);
        for (double a : {low, std::sqrt(low), 1.0}) EXPECT_LE(std::abs(deviation(w, root, a)), w.error * (1 + 1e-6) + 1e-10);
      }
}

TEST(Minimax, NarrowIntervalsNeedNoHighDegree) {
  const MinimaxWeight w = minimax_weight(4, 1 - 1e-6, 1 + 1e-6, 4);
  ASSERT_EQ(w.coefficients.size(), 5u);
  EXPECT_LT(w.error, 1e-9);
  for (double c : w.coefficients) EXPECT_LT(std::abs(c), 10);
}

// Predicted errors of σᵖ after {2, 2, 4, 4} without cushion and {2, 2, 2, 2, 2} with one of 0.03, from the
// same solver.
TEST(Design, PredictedErrorsEqualThoseOfAnIndependentSolver) {
  const struct {
    Exponent p;
    double plain, cushioned;
  } cases[] = {{{0, 1}, 0.176359195, 0.144335846},  {{1, 4}, 0.000884499, 0.000282419}, {{1, 3}, 0.002161285, 0.000763836},
               {{1, 2}, 0.007708670, 0.003566200},  {{2, 3}, 0.001080059, 0.000381845}, {{3, 4}, 0.000294746, 0.000094131},
               {{-1, 4}, 0.001474599, 0.000470742}, {{-1, 2}, 0.023304739, 0.010736797}};
  for (const auto& c : cases) {
    // The grid of that solver misses up to 5e-5 of the error over four steps.
    EXPECT_NEAR(design_steps(c.p, 1e-3, {2, 2, 4, 4}, 0, 0).error, c.plain, 1e-6 + 6e-5 * c.plain);
    EXPECT_NEAR(design_steps(c.p, 1e-3, {2, 2, 2, 2, 2}, 0.03, 0.03).error, c.cushioned, 1e-6 + 6e-5 * c.cushioned);
  }
}

// z_k = σᵖ·a_k^(m/2h) exactly: following one singular value through the steps gives the design's own error.
TEST(Design, ScalarRecurrenceStaysWithinThePrediction) {
  for (const char* text : {"0", "1/4", "1/3", "1/2", "2/3", "3/4", "-1/4", "-1/2", "15/16"}) {
    const Exponent p = parse_exponent(text);
    const Design design = design_steps(p, 1e-3, {4, 2, 8, 4}, 0.01, 0);
    double worst = 0;
    for (int i = 0; i <= 3000; ++i) {
      const double sigma = std::pow(1e-3, i / 3000.0);
      muonp::reference::Coupled at{sigma, sigma};
      for (const DesignStep& step : design.steps) {
        const double a = at.y * at.y;
        ASSERT_GE(a, step.low * (1 - 1e-9));
        ASSERT_LE(a, step.high * (1 + 1e-9));
        const double w =
            step.octic ? (*step.octic)(a) : (1 - deviation(step.weight, 2 * p.h(), a)) / std::pow(a, 0.5 / p.h());
        at.step(w, p.h(), p.m());
      }
      worst = std::max(worst, std::abs(at.z / std::pow(sigma, p.value()) - 1));
    }
    EXPECT_LE(worst, design.error * (1 + 1e-6) + 64 * 0x1p-53) << text;  // and the rounding of this loop
    EXPECT_GE(worst, design.error * 0.9) << text;  // the prediction is attained, not only an upper bound
  }
}

TEST(Design, IsCached) {
  const auto first = cached_design({1, 2}, 1e-3, {2, 2, 4}, 0.01, 0),
             again = cached_design({1, 2}, 1e-3, {2, 2, 4}, 0.01, 0);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, cached_design({1, 2}, 1e-3, {2, 2, 4}, 0.02, 0));
}

// A cached design goes on from that of its beginning.
TEST(Design, CachedOrNotHasTheSameSteps) {
  for (const auto& degrees : std::vector<std::vector<int>>{{}, {4}, {4, 8}, {4, 8, 2}}) {
    const auto cached = cached_design({1, 3}, 2e-3, degrees, 0.01, 0.005);
    const Design design = design_steps({1, 3}, 2e-3, degrees, 0.01, 0.005);
    EXPECT_EQ(cached->error, design.error);
    ASSERT_EQ(cached->steps.size(), design.steps.size());
    for (std::size_t i = 0; i < design.steps.size(); ++i) {
      EXPECT_EQ(cached->steps[i].low, design.steps[i].low);
      EXPECT_EQ(cached->steps[i].high, design.steps[i].high);
      EXPECT_EQ(cached->steps[i].weight.coefficients, design.steps[i].weight.coefficients);
    }
  }
}

TEST(Octic, EqualsItsPolynomialWithThreeProducts) {
  for (const char* text : {"0", "1/4", "1/3", "1/2", "2/3", "3/4"}) {
    const Exponent p = parse_exponent(text);
    const Design design = design_steps(p, 1e-3, {8, 8}, 0.01, 0);
    ASSERT_EQ(design.steps.size(), 2u) << text;
    for (const DesignStep& step : design.steps) {
      ASSERT_TRUE(step.octic) << text;
      double largest = 0, difference = 0;
      for (int i = 0; i <= 1000; ++i) {
        const double a = step.low + (step.high - step.low) * i / 1000;
        const double plain =
            static_cast<double>(evaluate({step.weight.coefficients.begin(), step.weight.coefficients.end()}, a));
        largest = std::max(largest, std::abs(plain));
        difference = std::max(difference, std::abs(plain - (*step.octic)(a)));
      }
      EXPECT_LT(difference, 1e-8 * largest) << text;
    }
  }
}

TEST(Octic, IsRefusedWhereTheLeadingCoefficientVanishes) {
  EXPECT_FALSE(factor_octic({1, 0.5, 0.25, 0, 0, 0, 0, 0, 0}, 0.5, 1.5));
}

TEST(Schedule, CheapestThatReachesTheTolerance) {
  for (const char* text : {"0", "1/4", "1/3", "1/2", "2/3", "3/4", "-1/4", "-1/2", "7/8", "1/16"})
    for (double tolerance : {0.1, 0.01, 0.001}) {
      const Exponent p = parse_exponent(text);
      const Schedule s = choose_schedule(p, 1e-3, tolerance, 1024, 1024);
      EXPECT_LE(s.design->error, tolerance) << text;
      EXPECT_GE(s.restarts, 1) << text;
      EXPECT_LT(s.restarts, static_cast<int>(s.degrees.size())) << text;
      // Looser tolerances never cost more.
      const Schedule looser = choose_schedule(p, 1e-3, 2 * tolerance, 1024, 1024);
      EXPECT_LE(schedule_flops(looser, p, 1024, 1024) - (looser.restarts - s.restarts) * 3e9,
                schedule_flops(s, p, 1024, 1024))
          << text;
    }
  EXPECT_THROW(choose_schedule({1, 2}, 1e-9, 1e-8, 8, 8), muonp::core::Error);
}

namespace {

// The bound for eigenvalues with multiplicities, relative to the largest.
double relative_bound(const std::vector<double>& eigenvalues, double noise) {
  std::array<double, 4> moments{};
  double largest = 0;
  for (double x : eigenvalues) {
    largest = std::max(largest, x);
    for (std::size_t k = 0; k < 4; ++k) moments[k] += std::pow(x, static_cast<double>(k + 1));
  }
  for (std::size_t k = 0; k < 4; ++k) moments[k] *= 1 + noise * (k % 2 == 0 ? 1 : -1);
  const double bound = eigenvalue_bound(static_cast<std::int64_t>(eigenvalues.size()), moments);
  const double of_kernels = eigenvalue_bound(static_cast<double>(eigenvalues.size()), moments[0], moments[1], moments[2],
                                             moments[3], kMomentSlack);
  EXPECT_NEAR(of_kernels, bound, 1e-8 * bound);
  return bound / largest;
}

}  // namespace

TEST(EigenvalueBound, IsABoundAndNeverAboveSchatten) {
  for (int n : {1, 2, 3, 10, 300, 2000})
    for (double noise : {0.0, 1e-6, -1e-6})
      for (int kind = 0; kind < 6; ++kind) {
        std::vector<double> x(static_cast<std::size_t>(n));
        double fourth = 0;
        for (int i = 0; i < n; ++i) {
          const double t = n > 1 ? static_cast<double>(i) / (n - 1) : 0;
          const double values[] = {
              1, std::pow(1e-6, t), 1.0 / ((i + 1.0) * (i + 1)), 1 - t * 0.999, i == 0 ? 1 : 1e-6, i < 2 ? 1 - 0.1 * i : 0};
          x[static_cast<std::size_t>(i)] = values[kind];
          fourth += std::pow(values[kind], 4);
        }
        const double bound = relative_bound(x, noise);
        EXPECT_GE(bound, 1 - 1e-6) << n << ", kind " << kind;
        EXPECT_LE(bound, std::pow(fourth, 0.25) * (1 + 1e-6)) << n << ", kind " << kind;
        EXPECT_LE(std::sqrt(bound), kBoundSlack) << n << ", kind " << kind;
      }
}

TEST(EigenvalueBound, IsTightForSpectraOfOneOrTwoValues) {
  for (int n : {2, 64, 1024}) {
    std::vector<double> flat(static_cast<std::size_t>(n), 0.3), two = flat;
    for (int i = 0; i < n / 2; ++i) two[static_cast<std::size_t>(i)] = 1e-4;
    EXPECT_LT(relative_bound(flat, 0), 1.15);
    EXPECT_LT(relative_bound(two, 0), 1.15);
  }
}
