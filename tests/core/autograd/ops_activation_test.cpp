#include "core/autograd/ops/activation.h"

#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

OpCase relu_squared_case() {
  OpCase c;
  c.inputs = {{9, 31}};
  c.op = [](Tape& tape, const auto& x, const auto&) { return ops::relu_squared(tape, x[0]); };
  c.reference = [](const std::vector<Numbers>& v) {
    Numbers y;
    for (const double x : v[0]) y.push_back(x > 0 ? x * x : 0);
    return y;
  };
  c.input_scale = 2;
  return c;
}

Numbers swiglu_reference(const Numbers& x, std::size_t rows, std::size_t hidden) {
  Numbers y(rows * hidden);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < hidden; ++c) {
      const double a = x[r * 2 * hidden + c], b = x[(r * 2 + 1) * hidden + c];
      y[r * hidden + c] = a / (1 + std::exp(-a)) * b;
    }
  return y;
}

}  // namespace

TEST(ReluSquared, MatchesReferenceAndDifferences) { check_op(relu_squared_case()); }

TEST(Swiglu, MatchesReferenceAndDifferences) {
  OpCase c;
  c.inputs = {{5, 26}};
  c.op = [](Tape& tape, const auto& x, const auto&) { return ops::swiglu(tape, x[0]); };
  c.reference = [](const std::vector<Numbers>& v) { return swiglu_reference(v[0], 5, 13); };
  check_op(c);
}

TEST(ReluSquared, LimitsAndNanPass) {
  auto device = make_test_device(1);
  Tape tape(*device, false);
  const Numbers x = {-1e30, -100, 0, 100, 1e12, NAN};
  const Variable v = tape.constant(to_tensor(*device, {1, 6}, Dtype::float32, x));
  const Numbers r = to_numbers(ops::relu_squared(tape, v)->value);
  EXPECT_EQ(r[1], 0);
  EXPECT_EQ(r[3], 10000);
  EXPECT_TRUE(std::isnan(r[5]));
}
