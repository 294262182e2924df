#include "optim/rules/sgd.h"

#include <gtest/gtest.h>

#include "tests/optim/oracles.h"

using namespace muonp;
using namespace muonp::optim;
using namespace muonp::optim::oracle;

namespace {

struct Reference {
  Doubles w, m;
  void step(const SgdParams& p, double lr, double scale, const Doubles& gradient) {
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double g = scale * gradient[i] * (p.ema ? 1 - p.momentum : 1.0);
      m[i] = p.momentum * m[i] + g;
      const double u = p.nesterov ? g + p.momentum * m[i] : m[i];
      w[i] = (1 - lr * p.weight_decay) * w[i] - lr * u;
    }
  }
};

class SgdUpdate : public testing::TestWithParam<std::tuple<bool, bool>> {
 protected:
  test::TestDevice device = test::make_test_device(2);
};

}  // namespace

// Whole numbers and factors that are powers of two: three steps are exact in float32.
TEST_P(SgdUpdate, IsExactOnWholeNumbers) {
  const auto [ema, nesterov] = GetParam();
  const SgdParams params{.momentum = 0.5, .ema = ema, .nesterov = nesterov, .weight_decay = 0.25};
  const std::int64_t n = 8209;
  Reference reference{.w = random_integers(n, 1), .m = Doubles(n, 0.0)};
  const core::Tensor w = tensor(*device, reference.w), m = tensor(*device, reference.m);
  for (int t = 0; t < 3; ++t) {
    const core::Tensor gradient = tensor(*device, random_integers(n, 50 + t));
    reference.step(params, 0.5, 2.0, doubles(gradient));
    sgd_update(device->queue(), params, 0.5, 2.0, w, gradient, m);
  }
  EXPECT_EQ(doubles(w), reference.w);
  EXPECT_EQ(doubles(m), reference.m);
}

TEST_P(SgdUpdate, WithoutMomentumNeedsNoState) {
  const auto [ema, nesterov] = GetParam();
  const core::Tensor w = tensor(*device, {8, -8});
  const SgdParams params{.momentum = 0, .ema = ema, .nesterov = nesterov, .weight_decay = 0.5};
  sgd_update(device->queue(), params, 0.5, 0.5, w, tensor(*device, {4, 8}), {});
  EXPECT_EQ(floats(w), (std::vector<float>{5, -8}));  // 0.75·8 − 0.5·2, −0.75·8 − 0.5·4
}

INSTANTIATE_TEST_SUITE_P(Forms, SgdUpdate, testing::Combine(testing::Bool(), testing::Bool()));
