#include "core/autograd/ops/low_rank.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

constexpr std::size_t kRows = 5, kInputs = 6, kRank = 2;
constexpr double kScale = 1.5;

// What x is multiplied by: 0, or 1 / (1 - probability).
Numbers mask_of(const ops::DropoutMask& dropped) {
  auto device = make_test_device(1);
  const Tensor ones = to_tensor(*device, {kRows, kInputs}, Dtype::float32, Numbers(kRows * kInputs, 1.0));
  if (dropped.probability > 0) ops::drop(device->queue(), dropped, ones, ones);
  return to_numbers(ones);
}

// x Wᵀ + kScale (mask x Aᵀ) Bᵀ, of one part with so many outputs.
Numbers one(const Numbers& x, const Numbers& w, const Numbers& a, const Numbers& b, const Numbers& mask) {
  const std::size_t outputs = w.size() / kInputs;
  Numbers y(kRows * outputs);
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t i = 0; i < kInputs; ++i) {
        double weight = 0;
        for (std::size_t k = 0; k < kRank; ++k) weight += b[o * kRank + k] * a[k * kInputs + i];
        y[r * outputs + o] += x[r * kInputs + i] * (w[o * kInputs + i] + kScale * mask[r * kInputs + i] * weight);
      }
  return y;
}

// Three parts side by side, the first and the last with an adapter.
OpCase parts_case(double dropout) {
  const ops::DropoutMask dropped{dropout, 3, 5, 8};
  OpCase c;
  c.inputs = {{kRows, kInputs}};
  c.parameters = {{4, kInputs}, {kRank, kInputs}, {4, kRank}, {3, kInputs}, {2, kInputs}, {kRank, kInputs}, {2, kRank}};
  c.op = [=](Tape& tape, const auto& x, const auto& p) {
    const auto scale = static_cast<float>(kScale);
    const ops::LinearPart parts[] = {
        {p[0], nullptr, {p[1], p[2], scale}}, {p[3], nullptr}, {p[4], nullptr, {p[5], p[6], scale}}};
    return ops::linear(tape, x[0], parts, dropped);
  };
  c.reference = [mask = mask_of(dropped)](const std::vector<Numbers>& v) {
    const Numbers none(kRank * kInputs, 0.0), first = one(v[0], v[1], v[2], v[3], mask),
                                              second = one(v[0], v[4], none, Numbers(3 * kRank, 0.0), mask),
                                              third = one(v[0], v[5], v[6], v[7], mask);
    Numbers y;
    for (std::size_t r = 0; r < kRows; ++r) {
      y.insert(y.end(), first.begin() + std::ptrdiff_t(4 * r), first.begin() + std::ptrdiff_t(4 * r + 4));
      y.insert(y.end(), second.begin() + std::ptrdiff_t(3 * r), second.begin() + std::ptrdiff_t(3 * r + 3));
      y.insert(y.end(), third.begin() + std::ptrdiff_t(2 * r), third.begin() + std::ptrdiff_t(2 * r + 2));
    }
    return y;
  };
  return c;
}

}  // namespace

TEST(LowRank, MatchesReferenceAndDifferences) { check_op(parts_case(0)); }

TEST(LowRank, DropsWhatAdaptersReadAndNothingElse) { check_op(parts_case(0.4)); }

TEST(LowRank, FrozenWeightsGetNoGradientAndPassOnesToTheirInput) {
  auto device = make_test_device(1);
  Parameter weight, a, b;
  weight.name = "weight";
  weight.shape = {3, 4};
  weight.trained = false;
  weight.init = {Initializer::Kind::ones, 0};
  a.name = "a";
  a.shape = {2, 4};
  a.init = {Initializer::Kind::ones, 0};
  b.name = "b";
  b.shape = {3, 2};
  PlainParameters plain(*device, {&weight, &a, &b}, Dtype::float32, 1);
  Tape tape(*device, true);
  const Variable x = tape.variable(to_tensor(*device, {1, 4}, Dtype::float32, {1, 2, 3, 4}));
  const ops::LinearPart part{&weight, nullptr, {&a, &b, 1}};
  const Variable loss = weighted_sum(tape, ops::linear(tape, x, {&part, 1}), {1, 1, 1});
  tape.backward(loss, 1, {&weight, &a, &b}, plain);
  EXPECT_EQ(plain.completed(), (ParameterList{&b, &a}));
  EXPECT_FALSE(weight.gradient);
  EXPECT_EQ(to_numbers(b.gradient), (Numbers{10, 10, 10, 10, 10, 10}));
  EXPECT_EQ(to_numbers(a.gradient), Numbers(8, 0.0));  // beside a B of zeros
  EXPECT_EQ(to_numbers(x->gradient->tensor), (Numbers{3, 3, 3, 3}));
}

TEST(LowRank, RefusesFactorsThatDoNotFit) {
  auto device = make_test_device(1);
  Parameter weight, a, b;
  weight.shape = {3, 4};
  a.shape = {2, 4};
  b.shape = {4, 2};
  PlainParameters plain(*device, {&weight, &a, &b}, Dtype::float32, 1);
  Tape tape(*device, true);
  const Variable x = tape.constant(Tensor::zeros(*device, {1, 4}, Dtype::float32, Category::other));
  const ops::LinearPart part{&weight, nullptr, {&a, &b, 1}};
  EXPECT_THROW(ops::linear(tape, x, {&part, 1}), InternalError);
}
