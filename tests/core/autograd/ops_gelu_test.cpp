// Two linear layers with gelu between them.
#include "core/autograd/ops/linear.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

constexpr std::int64_t kRank = 2;
constexpr double kScale = 0.5;

double gelu(double x) { return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

struct Sizes {
  std::int64_t rows, inputs, hidden, outputs;
};

enum class Adapted { none, up, down, both };

// x·Wᵀ, + b, and + kScale·(x·Aᵀ)·Bᵀ where the layer is adapted; `next` goes through the values.
Numbers layer(const Numbers& x, std::int64_t inputs, std::int64_t outputs, bool bias, bool adapted,
              std::vector<Numbers>::const_iterator& next) {
  const Numbers& w = *next++;
  Numbers weights = w, biases(at(outputs), 0.0);
  if (bias) biases = *next++;
  if (adapted) {
    const Numbers &a = *next++, &b = *next++;
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t i = 0; i < inputs; ++i)
        for (std::int64_t k = 0; k < kRank; ++k)
          weights[at(o * inputs + i)] += kScale * b[at(o * kRank + k)] * a[at(k * inputs + i)];
  }
  Numbers y;
  for (std::size_t r = 0; r < x.size() / at(inputs); ++r)
    for (std::size_t o = 0; o < at(outputs); ++o) {
      double sum = biases[o];
      for (std::size_t i = 0; i < at(inputs); ++i) sum += x[r * at(inputs) + i] * weights[o * at(inputs) + i];
      y.push_back(sum);
    }
  return y;
}

OpCase mlp_case(const Sizes& s, bool bias, Adapted adapted) {
  const bool up = adapted == Adapted::up || adapted == Adapted::both,
             down = adapted == Adapted::down || adapted == Adapted::both;
  OpCase c;
  c.inputs = {{s.rows, s.inputs}};
  const auto add = [&](std::int64_t inputs, std::int64_t outputs, bool with_adapter) {
    c.parameters.push_back({outputs, inputs});
    if (bias) c.parameters.push_back({outputs});
    if (with_adapter) c.parameters.insert(c.parameters.end(), {{kRank, inputs}, {outputs, kRank}});
  };
  add(s.inputs, s.hidden, up);
  add(s.hidden, s.outputs, down);
  c.op = [=](Tape& tape, const auto& x, const auto& p) {
    auto next = p.begin();
    const auto part = [&](bool with_adapter) {
      ops::LinearPart made{*next++, nullptr};
      if (bias) made.bias = *next++;
      if (with_adapter) made.adapter.a = *next++, made.adapter.b = *next++, made.adapter.scale = float(kScale);
      return made;
    };
    const ops::LinearPart first = part(up), second = part(down);
    return ops::linear(tape, ops::linear_gelu(tape, x[0], first), second);
  };
  c.reference = [=](const std::vector<Numbers>& v) {
    auto next = v.begin() + 1;
    Numbers between = layer(v[0], s.inputs, s.hidden, bias, up, next);
    for (double& x : between) x = gelu(x);
    return layer(between, s.hidden, s.outputs, bias, down, next);
  };
  return c;
}

}  // namespace

// Rows in whole 16 bytes of either type, as a GPU's library takes them, and others.
TEST(Gelu, MatchesReferenceAndDifferences) {
  for (const Sizes& s : {Sizes{6, 5, 16, 4}, {9, 8, 24, 8}, {3, 4, 13, 5}, {4, 3, 1, 2}, {1, 1, 1, 1}, {5, 1, 8, 1}})
    for (const bool bias : {true, false}) check_op(mlp_case(s, bias, Adapted::none));
}

TEST(Gelu, OfAdaptedLayersMatchesReferenceAndDifferences) {
  for (const Adapted adapted : {Adapted::up, Adapted::down, Adapted::both})
    for (const bool bias : {true, false}) check_op(mlp_case({5, 4, 8, 3}, bias, adapted));
}

TEST(Gelu, LimitsAndNanPass) {
  auto device = make_test_device(1);
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
    constexpr std::int64_t kWidth = 8;
    const Numbers x = {-0x1p100, -100, 0, 100, 0x1p40, NAN};
    Numbers rows(x.size() * kWidth, 0.0), identity(kWidth * kWidth, 0.0);
    for (std::size_t i = 0; i < x.size(); ++i) rows[i * kWidth] = x[i];
    for (std::size_t i = 0; i < kWidth; ++i) identity[i * kWidth + i] = 1;
    Parameter weight;
    weight.name = "weight";
    weight.shape = {kWidth, kWidth};
    const PlainParameters plain(*device, {&weight}, dtype, 1);
    weight.value = to_tensor(*device, weight.shape, dtype, identity);
    Tape tape(*device, false);
    const Variable v = tape.constant(to_tensor(*device, {std::ssize(x), kWidth}, dtype, rows));
    const Numbers g = to_numbers(ops::linear_gelu(tape, v, {&weight, nullptr}).value);
    EXPECT_EQ(g[1 * kWidth], 0);
    EXPECT_EQ(g[2 * kWidth], 0);
    EXPECT_EQ(g[3 * kWidth], 100);
    EXPECT_EQ(g[4 * kWidth], 0x1p40);
    EXPECT_TRUE(std::isnan(g[5 * kWidth]));
  }
}

// A product of the same sizes with a bias alone does not become one with gelu, nor the other way round.
TEST(Gelu, AndABiasAloneAreDifferentProducts) {
  auto device = make_test_device(1, Bfloat16::emulated);
  Parameter weight, bias;
  weight.name = "weight", bias.name = "bias";
  weight.shape = {16, 8}, bias.shape = {16};
  const PlainParameters plain(*device, {&weight, &bias}, Dtype::bfloat16, 1);
  for (Parameter* p : {&weight, &bias})
    p->value = to_tensor(*device, p->shape, Dtype::bfloat16, random_numbers(p->shape, 1));
  Tape tape(*device, false);
  const Variable x = tape.constant(to_tensor(*device, {4, 8}, Dtype::bfloat16, random_numbers({4, 8}, 2)));
  const Numbers first = to_numbers(ops::linear(tape, x, weight, &bias)->value);
  const ops::GeluOfLinear between = ops::linear_gelu(tape, x, {&weight, &bias});
  const Numbers before = to_numbers(between.before->value), value = to_numbers(between.value);
  EXPECT_EQ(before, first);
  for (std::size_t i = 0; i < value.size(); ++i)
    EXPECT_NEAR(value[i], gelu(before[i]), 0x1p-7 * (1 + std::abs(before[i]))) << i;
  EXPECT_EQ(to_numbers(ops::linear(tape, x, weight, &bias)->value), first);
}

// Its gradient has one reader, which is where the slope comes in; with an adapter and without.
TEST(Gelu, IsReadByOneLayer) {
  auto device = make_test_device(1);
  for (const bool adapted : {false, true}) {
    Parameter up, down, a, b;
    up.name = "up", down.name = "down", a.name = "a", b.name = "b";
    up.shape = down.shape = {4, 4}, a.shape = {kRank, 4}, b.shape = {4, kRank};
    PlainParameters plain(*device, {&up, &down, &a, &b}, Dtype::float32, 1);
    Tape tape(*device, true);
    const Variable x = tape.variable(Tensor::zeros(*device, {2, 4}, Dtype::float32, Category::other));
    const ops::GeluOfLinear between = ops::linear_gelu(tape, x, {&up, nullptr});
    const ops::LinearPart second = adapted ? ops::LinearPart{&down, nullptr, {&a, &b, 1}} : ops::LinearPart{&down, nullptr};
    const Variable y = ops::linear(tape, between, second), z = ops::linear(tape, between, second);
    const Variable loss = weighted_sum(tape, ops::add(tape, y, z), Numbers(8, 1.0));
    plain.start_step();
    EXPECT_THROW(tape.backward(loss, 1, {&up, &down, &a, &b}, plain), InternalError);
  }
}
