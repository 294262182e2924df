#include "optim/rules/adamw.h"

#include <gtest/gtest.h>

#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;

namespace {

constexpr double kEps = 0x1p-24;  // rounding of float32

struct Reference {  // the equations of adamw.h, loop by loop in double precision
  Doubles w, m, v;
  void step(const AdamWParams& p, double lr, std::int64_t t, double scale, const Doubles& gradient) {
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double g = scale * gradient[i];
      m[i] = p.beta1 * m[i] + (1 - p.beta1) * g;
      v[i] = p.beta2 * v[i] + (1 - p.beta2) * g * g;
      const double mean = m[i] / (1 - std::pow(p.beta1, t)), square = v[i] / (1 - std::pow(p.beta2, t));
      w[i] = (1 - lr * p.weight_decay) * w[i] - lr * mean / (std::sqrt(square) + p.eps);
    }
  }
};

class AdamWUpdate : public testing::Test {
 protected:
  test::TestDevice device = test::make_test_device(2);
  core::Queue& queue = device->queue();
};

}  // namespace

TEST_F(AdamWUpdate, MatchesTheEquationsOverManySteps) {
  const std::int64_t n = 20011;  // more than one thread's share, no multiple of a vector
  const AdamWParams params{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1};
  Reference reference{.w = random(n, 1), .m = Doubles(n, 0.0), .v = Doubles(n, 0.0)};
  const core::Tensor w = tensor(*device, reference.w), m = tensor(*device, reference.m), v = tensor(*device, reference.v);
  const int steps = 20;
  for (int t = 1; t <= steps; ++t) {
    const core::Tensor gradient = tensor(*device, random(n, 100 + t));
    reference.step(params, 0.01, t, 0.5, doubles(gradient));
    adamw_update(queue, params, 0.01, t, 0.5, w, gradient, m, v);
  }
  // A step rounds each of about eight operations on values below 6.
  const Doubles mine = doubles(w);
  for (std::int64_t i = 0; i < n; ++i) ASSERT_NEAR(mine[i], reference.w[i], steps * 8 * 6 * kEps) << i;
  EXPECT_LT(relative_difference(doubles(m), reference.m), 8 * steps * kEps);
  EXPECT_LT(relative_difference(doubles(v), reference.v), 8 * steps * kEps);
}

TEST_F(AdamWUpdate, FirstStepMovesByTheLearningRateWhateverTheGradient) {
  // At t = 1 the corrected ratio is g/|g|; powers of two keep every operation exact but the correction
  // itself.
  const core::Tensor gradient = tensor(*device, {4, -0.25, 1024, 0});
  const core::Tensor w = tensor(*device, {1, 1, 1, 1}), m = tensor(*device, Doubles(4, 0)),
                     v = tensor(*device, Doubles(4, 0));
  adamw_update(queue, {.beta1 = 0.5, .beta2 = 0.75, .eps = 0}, 0.125, 1, 1.0, w, gradient, m, v);
  EXPECT_EQ(floats(w), (std::vector<float>{0.875f, 1.125f, 0.875f, 1.0f}));
  EXPECT_EQ(floats(m), (std::vector<float>{2, -0.125f, 512, 0}));
}

TEST_F(AdamWUpdate, Pitfall17_TheStepCountsPast256AndPast32Bits) {
  const AdamWParams params{.beta1 = 0.9, .beta2 = 0.9999, .eps = 0};
  for (const std::int64_t t : {255l, 256l, 257l, 5000l, 1l << 33}) {
    Reference reference{.w = {0}, .m = {0}, .v = {0}};
    reference.step(params, 1.0, t, 1.0, {2});
    const core::Tensor w = tensor(*device, {0}), m = tensor(*device, {0}), v = tensor(*device, {0});
    adamw_update(queue, params, 1.0, t, 1.0, w, tensor(*device, {2}), m, v);
    EXPECT_NEAR(doubles(w)[0], reference.w[0], 16 * kEps * std::abs(reference.w[0])) << t;
  }
}

TEST_F(AdamWUpdate, CorrectionKeepsItsDigitsForBetaNearOne) {
  // The corrected mean of one gradient is that gradient: the weight moves by lr.
  const core::Tensor w = tensor(*device, {0}), m = tensor(*device, {0}), v = tensor(*device, {0});
  adamw_update(queue, {.beta1 = 1 - 1e-9, .beta2 = 1 - 1e-9, .eps = 0}, 1.0, 1, 1.0, w, tensor(*device, {3}), m, v);
  EXPECT_NEAR(doubles(w)[0], -1, 8 * kEps);
}

TEST_F(AdamWUpdate, PiecesGiveTheSameBitsAsTheWhole) {
  const std::int64_t n = 9001;
  const AdamWParams params{.weight_decay = 0.3};
  const Doubles weights = random(n, 1), gradients = random(n, 2), means = random(n, 3);
  Doubles squares = random(n, 4);
  for (double& s : squares) s *= s;
  const auto run = [&](const std::vector<std::int64_t>& cuts) {
    const core::Tensor w = tensor(*device, weights), g = tensor(*device, gradients), m = tensor(*device, means),
                       v = tensor(*device, squares);
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
      const std::int64_t begin = cuts[i], count = cuts[i + 1] - begin;
      adamw_update(queue, params, 0.1, 3, 0.7, w.flat(begin, count), g.flat(begin, count), m.flat(begin, count),
                   v.flat(begin, count));
    }
    return floats(w);
  };
  EXPECT_EQ(run({0, n}), run({0, 0, 1, 18, 8999, n}));
}

TEST_F(AdamWUpdate, ZeroGradientWithoutEpsilonIsNoStep) {
  const core::Tensor w = tensor(*device, {2}), m = tensor(*device, {0}), v = tensor(*device, {0});
  adamw_update(queue, {.eps = 0}, 0.1, 1, 1.0, w, tensor(*device, {0}), m, v);
  EXPECT_EQ(floats(w)[0], 2);
  EXPECT_THROW(adamw_update(queue, {}, 0.1, 0, 1.0, w, w, m, v), core::InternalError);
}
