#include "optim/rules/muonp.h"

#include <gtest/gtest.h>

#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;

namespace {

constexpr double kExponents[] = {-0.5, -0.25, 0, 1.0 / 3, 0.5, 0.75, 1};

class MuonpUpdate : public testing::Test {
 protected:
  test::TestDevice device = test::make_test_device(2);
  core::Queue& queue = device->queue();

  // The update that scale_update makes of n's exact spectral power.
  Doubles update(ShapeScale scale, double p, const Doubles& n, std::int64_t rows, std::int64_t cols) {
    const core::Tensor z = tensor(*device, {rows, cols}, spectral_power(n, rows, cols, p));
    scale_update(queue, scale, p, tensor(*device, {rows, cols}, n), z);
    return doubles(z);
  }
};

class MomentumStep : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  test::TestDevice device = test::make_test_device(2);
};

double root_mean_square(const Doubles& a) { return norm(a) / std::sqrt(static_cast<double>(a.size())); }

}  // namespace

TEST_P(MomentumStep, IsExactOnWholeNumbersHoweverCut) {
  const auto [ema, nesterov] = GetParam();
  const Momentum params{.factor = 0.5, .ema = ema, .nesterov = nesterov};
  const std::int64_t n = 8300;
  Doubles m(n, 0.0);
  const core::Tensor momentum = tensor(*device, m);
  for (int t = 0; t < 4; ++t) {
    Doubles input = random_integers(n, 10 + t);
    const core::Tensor gradient = tensor(*device, input);
    for (std::int64_t i = 0; i < n; ++i) {
      const double g = 4 * input[i] * (ema ? 0.5 : 1.0);
      m[i] = 0.5 * m[i] + g;
      input[i] = nesterov ? g + 0.5 * m[i] : m[i];
    }
    for (const auto& [begin, end] : {std::pair(0l, 17l), {17l, 17l}, {17l, n}})
      muonp_momentum(device->queue(), params, 4.0, gradient.flat(begin, end - begin), momentum.flat(begin, end - begin));
    EXPECT_EQ(doubles(momentum), m);
    EXPECT_EQ(doubles(gradient), input);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, MomentumStep, testing::Combine(testing::Bool(), testing::Bool()));

TEST_F(MuonpUpdate, AverageAndHeavyBallPointTheSameWay) {
  const std::int64_t n = 500;
  const core::Tensor average = tensor(*device, Doubles(n, 0)), ball = tensor(*device, Doubles(n, 0));
  for (int t = 0; t < 5; ++t) {
    const core::Tensor a = tensor(*device, random(n, t)), b = tensor(*device, random(n, t));
    muonp_momentum(queue, {.factor = 0.75, .ema = true}, 1.0, a, average);
    muonp_momentum(queue, {.factor = 0.75, .ema = false}, 0.25, b, ball);
    EXPECT_EQ(floats(a), floats(b));
  }
}

TEST_F(MuonpUpdate, ApplyUpdateDecaysTheWeightsByThemselves) {
  const core::Tensor w = tensor(*device, {8, -4, 0});
  apply_update(queue, w, {tensor(*device, {2, 2, -6})}, 0.5, 0.25);
  EXPECT_EQ(floats(w), (std::vector<float>{6, -4.5f, 3}));
}

TEST_F(MuonpUpdate, MatchRmsAndRms1FixTheRootMeanSquareAtEveryExponent) {
  for (const auto& [rows, cols] : {std::pair(24l, 24l), {40l, 10l}, {6l, 30l}, {1l, 9l}, {9l, 1l}})
    for (const double p : kExponents) {
      const Doubles n = random(rows * cols, 3);
      EXPECT_NEAR(root_mean_square(update(ShapeScale::match_rms, p, n, rows, cols)), 0.2, 1e-6);
      EXPECT_NEAR(root_mean_square(update(ShapeScale::rms1, p, n, rows, cols)), 1, 1e-6);
    }
}

TEST_F(MuonpUpdate, MatchRmsIsMoonlightsScaleAtTheFullRankPolarFactor) {
  const Doubles n = random(40 * 10, 4), polar = spectral_power(n, 40, 10, 0);
  const Doubles mine = update(ShapeScale::match_rms, 0, n, 40, 10);
  for (std::size_t i = 0; i < n.size(); ++i) EXPECT_NEAR(mine[i], 0.2 * std::sqrt(40.0) * polar[i], 1e-6);
}

TEST_F(MuonpUpdate, SpectralMovesTheLeadingDirectionByTheShapeFactor) {
  for (const auto& [rows, cols] : {std::pair(24l, 24l), {40l, 10l}, {6l, 30l}})
    for (const double p : kExponents) {
      const Doubles n = random(rows * cols, 5);
      const Svd d = svd(n, rows, cols);
      Doubles leading(d.s.size(), 0.0);
      leading[0] = 1;
      const double moved = dot(compose(d, leading), update(ShapeScale::spectral, p, n, rows, cols));
      EXPECT_NEAR(moved, std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(cols))), 1e-5) << p;
    }
}

TEST_F(MuonpUpdate, SchattenIsTheUnitBallTimesTheNormOfTheIdentity) {
  for (const auto& [rows, cols] : {std::pair(24l, 24l), {40l, 10l}, {6l, 30l}})
    for (const double p : {0.0, 1.0 / 3, 0.5, 0.75, 1.0}) {
      const Doubles n = random(rows * cols, 6);
      const Svd d = svd(update(ShapeScale::schatten, p, n, rows, cols), rows, cols);
      if (p == 0) {
        for (const double s : d.s) EXPECT_NEAR(s, 1, 1e-5);
        continue;
      }
      const double q = 1 + 1 / p, schatten = std::pow(power_sum(d.s, q), 1 / q);
      EXPECT_NEAR(schatten, std::pow(std::min(rows, cols), 1 / q), 1e-5 * schatten) << p;
    }
}

// Of all D in the unit Schatten-(1 + 1/p) ball, P_p(G) brought to norm 1 has the largest inner product with
// G, and that product is the dual norm of G.
TEST_F(MuonpUpdate, SchattenUpdateMaximisesTheInnerProductWithTheGradient) {
  const std::int64_t rows = 12, cols = 8;
  const Doubles g = random(rows * cols, 7);
  const Svd of_g = svd(g, rows, cols);
  for (const double p : {0.25, 1.0 / 3, 0.5, 0.75, 1.0}) {
    const double q = 1 + 1 / p;
    const auto to_unit_ball = [&](Doubles d) {
      const double schatten = std::pow(power_sum(svd(d, rows, cols).s, q), 1 / q);
      for (double& value : d) value /= schatten;
      return d;
    };
    const Doubles best = to_unit_ball(update(ShapeScale::schatten, p, g, rows, cols));
    const double reached = dot(g, best);
    EXPECT_NEAR(reached, std::pow(power_sum(of_g.s, 1 + p), 1 / (1 + p)), 1e-5 * reached);
    for (std::uint64_t trial = 0; trial < 100; ++trial) {
      Doubles rival = random(rows * cols, 1000 + trial);
      // Anything from far away to a small change of the best direction.
      const double near = std::pow(10.0, -static_cast<double>(trial % 4));
      for (std::size_t i = 0; i < rival.size(); ++i) rival[i] = trial % 5 == 4 ? rival[i] : best[i] + near * rival[i] * 0.1;
      EXPECT_LT(dot(g, to_unit_ball(rival)), reached * (1 + 1e-9)) << p << " " << trial;
    }
    for (const double other : {0.0, 0.5 * p, 1.5 * p})
      EXPECT_LT(dot(g, to_unit_ball(spectral_power(g, rows, cols, other))), reached * (1 - 1e-6));
  }
}

// f(W) = L/2‖W − W*‖², G = L(W − W*): a step ηP_p(G) descends exactly below (2/L)·Σσ^{1+p}/Σσ^{2p}, which is
// 2/L times the mean singular value at p = 0 and 2/L at p = 1 (arXiv 2605.13079).
TEST_F(MuonpUpdate, StableStepOnAQuadraticEndsWhereTheTheorySays) {
  const double curvature = 4;
  const std::int64_t rows = 20, cols = 12;
  const Doubles target = random(rows * cols, 8), start = random(rows * cols, 9);
  Doubles g(start.size());
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = curvature * (start[i] - target[i]);
  const Doubles s = svd(g, rows, cols).s;
  const auto loss = [&](const core::Tensor& w) {
    Doubles difference = doubles(w);
    for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= target[i];
    return curvature / 2 * dot(difference, difference);
  };
  for (const double p : kExponents) {
    const double largest = 2 / curvature * power_sum(s, 1 + p) / power_sum(s, 2 * p);
    if (p == 0) {
      EXPECT_NEAR(largest, 2 / curvature * power_sum(s, 1) / static_cast<double>(cols), 1e-12);
    }
    if (p == 1) {
      EXPECT_NEAR(largest, 2 / curvature, 1e-12);
    }
    const core::Tensor z = tensor(*device, {rows, cols}, update(ShapeScale::none, p, g, rows, cols));
    for (const double share : {0.5, 0.999, 1.001, 1.5}) {
      const core::Tensor w = tensor(*device, {rows, cols}, start);
      const double before = loss(w);
      apply_update(queue, w, {z}, share * largest, 0);
      EXPECT_EQ(loss(w) < before, share < 1) << "p " << p << ", " << share << " of the largest step";
    }
  }
}

TEST_F(MuonpUpdate, Pitfall05_TheScaleIsThatOfTheLogicalShape) {
  // Rows and columns of zeros change neither the spectral power nor its norm; the factor follows the shape
  // given.
  const Doubles n = random(6 * 4, 1);
  Doubles padded(8 * 4, 0.0);
  std::copy(n.begin(), n.end(), padded.begin());
  const Doubles small = update(ShapeScale::match_rms, 0.5, n, 6, 4);
  const core::Tensor z = tensor(*device, {8, 4}, spectral_power(padded, 8, 4, 0.5));
  scale_update(queue, ShapeScale::match_rms, 0.5, tensor(*device, {6, 4}, n), z.flat(0, 24).view({6, 4}));
  EXPECT_LT(relative_difference(doubles(z.flat(0, 24)), small), 1e-6);
}

TEST_F(MuonpUpdate, Pitfall10_TheUpdateDoesNotSeeTheSizeOfTheGradient) {
  const Doubles n = random(30 * 20, 2);
  for (const ShapeScale scale : {ShapeScale::match_rms, ShapeScale::spectral, ShapeScale::rms1, ShapeScale::schatten})
    for (const double p : kExponents) {
      if (scale == ShapeScale::schatten && p < 0) continue;
      const Doubles one = update(scale, p, n, 30, 20);
      for (const double c : {1e-6, 1e-12, 1e-20, 1e12}) {
        Doubles scaled = n;
        for (double& value : scaled) value *= c;
        EXPECT_LT(relative_difference(update(scale, p, scaled, 30, 20), one), 3e-6) << name_of(scale) << p << " " << c;
      }
    }
}

TEST_F(MuonpUpdate, Pitfall11_AZeroGradientGivesAZeroUpdate) {
  for (std::size_t scale = 0; scale < std::size(kShapeScales); ++scale)
    for (const double p : kExponents)
      EXPECT_EQ(update(static_cast<ShapeScale>(scale), p, Doubles(12, 0.0), 3, 4), Doubles(12, 0.0));
}

TEST_F(MuonpUpdate, AnUpdateThatIsNotFiniteIsRefused) {
  for (std::size_t scale = 0; scale < std::size(kShapeScales); ++scale) {
    const core::Tensor z = tensor(*device, {1, 2}, {1, NAN});
    EXPECT_THROW(scale_update(queue, static_cast<ShapeScale>(scale), 0.5, tensor(*device, {1, 2}, {1, 1}), z), core::Error);
  }
  // A recurrence that turned the direction round has no Schatten norm to divide by.
  EXPECT_THROW(
      scale_update(queue, ShapeScale::schatten, 0.5, tensor(*device, {1, 2}, {1, 1}), tensor(*device, {1, 2}, {-1, -1})),
      core::Error);
}

TEST(ShapeScaleNames, RoundTripAndRefuseOthers) {
  for (const std::string_view name : kShapeScales) EXPECT_EQ(name_of(parse_shape_scale(name)), name);
  EXPECT_THROW(parse_shape_scale("rms2"), core::Error);
}
