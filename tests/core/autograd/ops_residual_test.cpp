#include "core/autograd/ops/residual.h"

#include "core/autograd/ops/activation.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

TEST(Add, MatchesReferenceAndDifferences) {
  OpCase c;
  c.inputs = {{4, 9}, {4, 9}};
  c.op = [](Tape& tape, const auto& x, const auto&) { return ops::add(tape, x[0], x[1]); };
  c.reference = [](const std::vector<Numbers>& v) {
    Numbers y = v[0];
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += v[1][i];
    return y;
  };
  check_op(c);
}

TEST(Add, GradientsOfTheTwoTermsAreIndependent) {
  // x is used again after the sum was recorded, so its gradient is added to while the other term's still
  // waits.
  auto device = make_test_device(1);
  Tape tape(*device, true);
  const Variable x = tape.variable(to_tensor(*device, {2}, Dtype::float32, {1, 2}));
  const Variable y = tape.variable(to_tensor(*device, {2}, Dtype::float32, {3, 4}));
  const Variable z = ops::add(tape, ops::add(tape, x, y), x);
  PlainParameters none(*device, {}, Dtype::float32, 1);
  tape.backward(weighted_sum(tape, z, {10, 100}), 1, {}, none);
  EXPECT_EQ(to_numbers(x->gradient->tensor), (Numbers{20, 200}));
  EXPECT_EQ(to_numbers(y->gradient->tensor), (Numbers{10, 100}));
}

// The gradient of x is added to while the other term's, the same numbers so far, waits for the step that made it, which then
// writes in its place.
TEST(Add, ATermThatIsUsedTwiceDoesNotDisturbTheOther) {
  auto device = make_test_device(1);
  Tape tape(*device, true);
  const Variable x = tape.variable(to_tensor(*device, {2}, Dtype::float32, {1, 2}));
  const Variable u = tape.variable(to_tensor(*device, {2}, Dtype::float32, {3, -4}));
  const Variable y = ops::relu_squared(tape, u);
  const Variable again = ops::relu_squared(tape, x);
  const Variable z = ops::add(tape, ops::add(tape, x, y), again);
  PlainParameters none(*device, {}, Dtype::float32, 1);
  tape.backward(weighted_sum(tape, z, {10, 100}), 1, {}, none);
  EXPECT_EQ(to_numbers(x->gradient->tensor), (Numbers{10 + 2 * 10, 100 + 4 * 100}));
  EXPECT_EQ(to_numbers(u->gradient->tensor), (Numbers{6 * 10, 0}));
}

TEST(Add, CopiesNothing) {
  constexpr std::int64_t kSize = 4096;
  auto device = make_test_device(1);
  Tape tape(*device, true);
  const auto input = [&](double value) {
    return tape.variable(to_tensor(*device, {kSize}, Dtype::float32, Numbers(at(kSize), value)));
  };
  const Variable loss = weighted_sum(tape, ops::add(tape, input(1), input(2)), Numbers(at(kSize), 3.0));
  PlainParameters none(*device, {}, Dtype::float32, 1);
  device->allocator()->reset_peak();
  const std::int64_t before = device->allocator()->use().of(Category::activations);
  tape.backward(loss, 1, {}, none);
  EXPECT_LT(device->allocator()->use().peak_of(Category::activations) - before, kSize * 4);
}

namespace {

// The mask of dropout applied to ones.
Numbers mask_of(const ops::DropoutMask& mask, std::int64_t size) {
  auto device = make_test_device(2);
  Tape tape(*device, true);
  const Numbers ones(static_cast<std::size_t>(size), 1.0);
  return to_numbers(ops::dropout(tape, tape.variable(to_tensor(*device, {size}, Dtype::float32, ones)), mask)->value);
}

}  // namespace

TEST(Dropout, MatchesDifferencesWithItsOwnMask) {
  const ops::DropoutMask mask{.probability = 0.25, .seed = 5, .stream = 3, .first_element = 1001};
  const Numbers kept = mask_of(mask, 700);
  OpCase c;
  c.inputs = {{700}};
  c.op = [=](Tape& tape, const auto& x, const auto&) { return ops::dropout(tape, x[0], mask); };
  c.reference = [=](const std::vector<Numbers>& v) {
    Numbers y = v[0];
    for (std::size_t i = 0; i < y.size(); ++i) y[i] *= kept[i];
    return y;
  };
  check_op(c);
}

TEST(Dropout, MaskDependsOnTheGlobalElementOnly) {
  const ops::DropoutMask all{.probability = 0.5, .seed = 5, .stream = 3, .first_element = 0};
  const Numbers whole = mask_of(all, 2000);
  for (const std::int64_t first : {1, 255, 256, 700}) {
    ops::DropoutMask later = all;
    later.first_element = first;
    const Numbers part = mask_of(later, 2000 - first);
    EXPECT_EQ(part, Numbers(whole.begin() + first, whole.end())) << first;
  }
}

TEST(Dropout, StreamsAndSeedsDiffer) {
  const ops::DropoutMask mask{.probability = 0.5, .seed = 5, .stream = 3, .first_element = 0};
  ops::DropoutMask stream = mask, seed = mask;
  stream.stream = 4;
  seed.seed = 6;
  EXPECT_NE(mask_of(mask, 200), mask_of(stream, 200));
  EXPECT_NE(mask_of(mask, 200), mask_of(seed, 200));
}

TEST(Dropout, DropsTheWantedShareAndKeepsTheMean) {
  constexpr std::int64_t kSize = 100000;
  const double p = 0.1;
  const Numbers mask = mask_of({.probability = p, .seed = 1, .stream = 1, .first_element = 0}, kSize);
  double dropped = 0, mean = 0;
  for (const double m : mask) {
    dropped += m == 0;
    mean += m / double(kSize);
    EXPECT_TRUE(m == 0 || std::abs(m - 1 / (1 - p)) < 1e-6);
  }
  const double deviation = std::sqrt(p * (1 - p) / double(kSize));
  EXPECT_NEAR(dropped / double(kSize), p, 4 * deviation);
  EXPECT_NEAR(mean, 1, 4 * deviation / (1 - p));
}

TEST(Dropout, ZeroProbabilityIsTheIdentity) {
  auto device = make_test_device(1);
  Tape tape(*device, true);
  const Variable x = tape.variable(to_tensor(*device, {3}, Dtype::float32, {1, 2, 3}));
  EXPECT_EQ(ops::dropout(tape, x, {}), x);
  EXPECT_THROW(ops::dropout(tape, x, {.probability = 1}), InternalError);
}
