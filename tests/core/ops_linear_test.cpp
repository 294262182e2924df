#include "core/autograd/ops/linear.h"

#include "op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

Numbers reference(const std::vector<Numbers>& v, std::size_t rows, std::size_t inputs, std::size_t outputs) {
  Numbers y(rows * outputs);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t o = 0; o < outputs; ++o) {
      double sum = v.size() > 2 ? v[2][o] : 0;
      for (std::size_t i = 0; i < inputs; ++i) sum += v[0][r * inputs + i] * v[1][o * inputs + i];
      y[r * outputs + o] = sum;
    }
  return y;
}

OpCase linear_case(bool bias, std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  OpCase c;
  c.inputs = {{rows, inputs}};
  c.parameters = {{outputs, inputs}};
  if (bias) c.parameters.push_back({outputs});
  c.op = [=](Tape& tape, const auto& x, const auto& p) { return ops::linear(tape, x[0], *p[0], bias ? p[1] : nullptr); };
  c.reference = [=](const std::vector<Numbers>& v) { return reference(v, rows, inputs, outputs); };
  return c;
}

}  // namespace

TEST(Linear, MatchesReferenceAndDifferences) {
  check_op(linear_case(true, 6, 5, 7));
  check_op(linear_case(false, 6, 5, 7));
  check_op(linear_case(true, 1, 1, 1));
  check_op(linear_case(true, 3, 4, 130));  // more columns than one block of the bias sum
}

TEST(Linear, RefusesShapesAndDtypesThatDoNotFit) {
  auto device = make_test_device(1);
  Parameter weight;
  weight.name = "weight";
  weight.shape = {3, 4};
  PlainParameters plain(*device, {&weight}, Dtype::float32, 1);
  Tape tape(*device, true);
  const auto zeros = [&](Shape shape, Dtype dtype) {
    return tape.constant(Tensor::zeros(*device, std::move(shape), dtype, Category::other));
  };
  EXPECT_THROW(ops::linear(tape, zeros({2, 3}, Dtype::float32), weight, nullptr), InternalError);
  EXPECT_THROW(ops::linear(tape, zeros({2, 4}, Dtype::bfloat16), weight, nullptr), InternalError);
  EXPECT_THROW(ops::linear(tape, zeros({2, 4}, Dtype::float32), weight, &weight), InternalError);
  EXPECT_EQ(ops::linear(tape, zeros({2, 5, 4}, Dtype::float32), weight, nullptr)->value.shape(), (Shape{2, 5, 3}));
}
