#include "core/autograd/ops/norm.h"

#include "core/autograd/ops/residual.h"
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

// Value and gradients of both results are those of a sum and a norm behind it: the sum in every bit, and where the rows are
// packs of a GPU's and where they are not.
TEST(SumAndNorm, IsTheSumAndItsNorm) {
  auto device = make_test_device(2);
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const bool centred : {true, false})
      for (const std::int64_t cols : {7, 64, 1040}) {
        SCOPED_TRACE(fmt::format("{}, {} columns, {}", name_of(dtype), cols, centred ? "layer norm" : "RMS norm"));
        Parameter gain{"gain", {cols}, ParameterKind::vector, {Initializer::Kind::normal, 1}, {}, {}},
            bias{"bias", {cols}, ParameterKind::vector, {Initializer::Kind::normal, 1}, {}, {}};
        const Shape shape = {5, cols};
        const auto run = [&](bool fused) {
          PlainParameters plain(*device, {&gain, &bias}, dtype, 1);
          Tape tape(*device, true);
          const auto input = [&](std::uint64_t seed) {
            return tape.variable(to_tensor(*device, shape, dtype, random_numbers(shape, seed)));
          };
          const Variable a = input(1), b = input(2);
          ops::SumAndNorm both;
          if (fused) {
            both = centred ? ops::add_and_layer_norm(tape, a, b, gain, &bias) : ops::add_and_rms_norm(tape, a, b, gain);
          } else {
            both.sum = ops::add(tape, a, b);
            both.norm = centred ? ops::layer_norm(tape, both.sum, gain, &bias) : ops::rms_norm(tape, both.sum, gain);
          }
          std::vector<Numbers> all{to_numbers(both.sum->value), to_numbers(both.norm->value)};
          const Variable loss = weighted_sum(tape, ops::add(tape, both.sum, both.norm), random_numbers(shape, 3));
          tape.backward(loss, 1, {&gain, &bias}, plain);
          for (const Tensor& t : {a->gradient->tensor, b->gradient->tensor, gain.gradient, bias.gradient})
            all.push_back(to_numbers(t));
          return all;
        };
        const std::vector<Numbers> got = run(true), expected = run(false);
        EXPECT_EQ(got, expected);  // a recomputed block makes its sums apart, and has to give the same bits
      }
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
