#include "core/autograd/ops/norm.h"

#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

Numbers reference(const std::vector<Numbers>& v, std::size_t rows, std::size_t cols, bool centred, double epsilon) {
  Numbers y(rows * cols);
  for (std::size_t r = 0; r < rows; ++r) {
    const double* x = v[0].data() + r * cols;
    double mean = 0, square = 0;
    for (std::size_t c = 0; c < cols && centred; ++c) mean += x[c] / double(cols);
    for (std::size_t c = 0; c < cols; ++c) square += (x[c] - mean) * (x[c] - mean) / double(cols);
    for (std::size_t c = 0; c < cols; ++c)
      y[r * cols + c] = (x[c] - mean) / std::sqrt(square + epsilon) * v[1][c] + (v.size() > 2 ? v[2][c] : 0.0);
  }
  return y;
}

OpCase norm_case(bool centred, bool bias, std::int64_t rows, std::int64_t cols, float epsilon = ops::kNormEpsilon) {
  OpCase c;
  c.inputs = {{rows, cols}};
  c.parameters = {{cols}};
  if (bias) c.parameters.push_back({cols});
  c.op = [=](Tape& tape, const auto& x, const auto& p) {
    return centred ? ops::layer_norm(tape, x[0], *p[0], bias ? p[1] : nullptr, epsilon)
                   : ops::rms_norm(tape, x[0], *p[0], epsilon);
  };
  c.reference = [=](const std::vector<Numbers>& v) { return reference(v, rows, cols, centred, epsilon); };
  return c;
}

}  // namespace

TEST(LayerNorm, MatchesReferenceAndDifferences) {
  check_op(norm_case(true, true, 5, 8));
  check_op(norm_case(true, false, 5, 8));
  check_op(norm_case(true, true, 3, 70));
  check_op(norm_case(true, true, 3, 8, 0.5f));
}

TEST(RmsNorm, MatchesReferenceAndDifferences) {
  check_op(norm_case(false, false, 5, 8));
  check_op(norm_case(false, false, 3, 70));
  check_op(norm_case(false, false, 3, 8, 0.5f));
}

TEST(LayerNorm, LargeMeanKeepsItsPrecision) {
  // One pass over squares would lose the variance entirely: mean² is 1e8 times larger.
  auto device = make_test_device(1);
  Parameter gain;
  gain.name = "gain";
  gain.shape = {64};
  gain.init.kind = Initializer::Kind::ones;
  PlainParameters plain(*device, {&gain}, Dtype::float32, 1);
  Numbers x(64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 4096 + double(i % 2);
  Tape tape(*device, false);
  const Variable y = ops::layer_norm(tape, tape.constant(to_tensor(*device, {1, 64}, Dtype::float32, x)), gain, nullptr);
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_NEAR(to_numbers(y->value)[i], (i % 2 ? 0.5 : -0.5) / std::sqrt(0.25 + 1e-5), 1e-6);
}
