#include "core/autograd/autograd.h"

#include <gmock/gmock.h>

#include "core/autograd/ops/linear.h"
#include "core/autograd/ops/residual.h"
#include "tests/core/autograd/op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace {

struct Fixture : ::testing::Test {
  TestDevice device = make_test_device(1);
  std::deque<Parameter> storage;
  ParameterList parameters;

  Parameter& matrix(const std::string& name, std::int64_t size) {
    Parameter& p = storage.emplace_back();
    p.name = name;
    p.shape = {size, size};
    p.init = {Initializer::Kind::normal, 1};
    parameters.push_back(&p);
    return p;
  }
  Tensor ones(Shape shape) const {
    return to_tensor(*device, shape, Dtype::float32, Numbers(std::size_t(element_count(shape)), 1.0));
  }
  static Variable sum(Tape& tape, const Variable& v) {
    return weighted_sum(tape, v, Numbers(std::size_t(v->value.size()), 1.0));
  }
  static std::vector<std::string> names(const ParameterList& list) {
    std::vector<std::string> result;
    for (const Parameter* p : list) result.push_back(p->name);
    return result;
  }
  template <class Exception>
  static std::string message_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Exception& e) {
      return e.what();
    }
    return "nothing of the kind was thrown";
  }
};
using Autograd = Fixture;

}  // namespace

TEST_F(Autograd, ParametersAreAnnouncedInReverseOrderOfUse) {
  Parameter &a = matrix("a", 2), &b = matrix("b", 2), &bias = matrix("b.bias", 2), &c = matrix("c", 2);
  bias.shape = {2};
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, true);
  Variable x = ops::linear(tape, tape.constant(ones({1, 2})), a, nullptr);
  x = ops::linear(tape, x, b, &bias);  // an operation uses its parameters in the order of its arguments
  x = ops::linear(tape, x, c, nullptr);
  tape.backward(sum(tape, x), 1, parameters, plain);
  EXPECT_THAT(names(plain.completed()), ElementsAre("c", "b.bias", "b", "a"));
}

// A weight used by two operations, as a tied head is, has one gradient, announced once after both uses.
TEST_F(Autograd, Pitfall07_TiedParameterIsAnnouncedOnceWithTheSumOfItsUses) {
  Parameter &tied = matrix("tied", 2), &middle = matrix("middle", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  tied.value.copy_from(device->queue(), to_tensor(*device, {2, 2}, Dtype::float32, {1, 2, 3, 4}));
  middle.value.copy_from(device->queue(), to_tensor(*device, {2, 2}, Dtype::float32, {1, 0, 0, 1}));
  Tape tape(*device, true);
  Variable x = tape.constant(ones({1, 2}));
  for (Parameter* p : {&tied, &middle, &tied}) x = ops::linear(tape, x, *p, nullptr);
  tape.backward(sum(tape, x), 1, parameters, plain);
  EXPECT_THAT(names(plain.completed()), ElementsAre("middle", "tied"));
  // y = Σ W·(W·1): d/dW = 1·(W1)ᵀ + Wᵀ1·1ᵀ = [3 7; 3 7] + [4 4; 6 6].
  EXPECT_EQ(to_numbers(tied.gradient), (Numbers{7, 11, 9, 13}));
}

TEST_F(Autograd, Pitfall30_UnusedParametersGetZeroGradientsAndAreAnnouncedLast) {
  matrix("first", 2);
  Parameter& used = matrix("used", 2);
  matrix("last", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  for (int step = 0; step < 2; ++step) {
    if (step == 1)
      for (const Parameter* p : parameters) fill(p->gradient, NAN);  // what an earlier step left behind
    plain.start_step();
    Tape tape(*device, true);
    tape.backward(sum(tape, ops::linear(tape, tape.constant(ones({1, 2})), used, nullptr)), 1, parameters, plain);
    EXPECT_THAT(names(plain.completed()), ElementsAre("used", "last", "first"));
    EXPECT_EQ(to_numbers(parameters[0]->gradient), Numbers(4, 0.0));
    EXPECT_EQ(to_numbers(parameters[2]->gradient), Numbers(4, 0.0));
    EXPECT_EQ(to_numbers(used.gradient), Numbers(4, 1.0));
  }
}

// An operation whose result the loss does not depend on: its parameter is used, and its gradient is zero.
TEST_F(Autograd, Pitfall30_ParametersOfAnIgnoredBranchGetZeroGradients) {
  Parameter &kept = matrix("kept", 2), &ignored = matrix("ignored", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, true);
  const Variable x = tape.constant(ones({1, 2}));
  const Variable y = ops::linear(tape, x, kept, nullptr);
  ops::linear(tape, x, ignored, nullptr);
  tape.backward(sum(tape, y), 1, parameters, plain);
  EXPECT_THAT(names(plain.completed()), ElementsAre("ignored", "kept"));
  EXPECT_EQ(to_numbers(ignored.gradient), Numbers(4, 0.0));
}

TEST_F(Autograd, Pitfall33_BackwardTwiceOrWithoutRecordingIsAClearError) {
  Parameter& a = matrix("a", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, true);
  const Variable x = tape.constant(ones({1, 2}));
  const Variable loss = sum(tape, ops::linear(tape, x, a, nullptr));
  tape.backward(loss, 1, parameters, plain);
  EXPECT_THAT(message_of<InternalError>([&] { tape.backward(loss, 1, parameters, plain); }), HasSubstr("a second time"));
  EXPECT_THAT(message_of<InternalError>([&] { ops::linear(tape, x, a, nullptr); }), HasSubstr("after the backward"));
  EXPECT_EQ(plain.completed().size(), 1u);

  Tape silent(*device, false);
  const Variable forward_only = sum(silent, ops::linear(silent, x, a, nullptr));
  EXPECT_THAT(message_of<InternalError>([&] { silent.backward(forward_only, 1, parameters, plain); }),
              HasSubstr("does not record"));
}

TEST_F(Autograd, BackwardFromSomethingElseThanALossIsAClearError) {
  Parameter& a = matrix("a", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, true);
  const Variable y = ops::linear(tape, tape.constant(ones({1, 2})), a, nullptr);
  EXPECT_THAT(message_of<InternalError>([&] { tape.backward(y, 1, parameters, plain); }), HasSubstr("float32 scalar"));
  EXPECT_THAT(message_of<InternalError>([&] { tape.backward(tape.constant(ones({1})), 1, parameters, plain); }),
              HasSubstr("no parameter"));
  EXPECT_THAT(message_of<InternalError>([&] { tape.backward(sum(tape, y), 1, {}, plain); }),
              HasSubstr("a was used but is not in the model's list"));
}

// Four micro-batches of two rows add up to one batch of eight: the sums of a linear loss are exact in
// integers.
TEST_F(Autograd, Pitfall01_AccumulatedMicroBatchesEqualOneBatch) {
  Parameter& a = matrix("a", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Numbers rows;
  for (int i = 0; i < 16; ++i) rows.push_back(i);
  const auto pass = [&](std::int64_t first, std::int64_t count) {
    Tape tape(*device, true);
    const Tensor all = to_tensor(*device, {8, 2}, Dtype::float32, rows);
    const Variable x = tape.constant(all.flat(first * 2, count * 2).view({count, 2}));
    tape.backward(sum(tape, ops::linear(tape, x, a, nullptr)), 1, parameters, plain);
  };
  plain.start_step();
  for (std::int64_t i = 0; i < 8; i += 2) pass(i, 2);
  const Numbers accumulated = to_numbers(a.gradient);
  plain.start_step();
  pass(0, 8);
  EXPECT_EQ(to_numbers(a.gradient), accumulated);
  EXPECT_EQ(accumulated, (Numbers{56, 64, 56, 64}));
}

TEST_F(Autograd, ForwardOnlyKeepsNothing) {
  Parameter& a = matrix("a", 64);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, false);
  Variable x = tape.constant(ones({8, 64}));
  device->allocator()->reset_peak();
  for (int i = 0; i < 10; ++i) x = ops::linear(tape, x, a, nullptr);
  const MemoryUse use = device->allocator()->use();
  EXPECT_EQ(use.of(Category::activations), 8 * 64 * 4);
  EXPECT_EQ(use.peak_of(Category::activations), 2 * 8 * 64 * 4);
}

// While the pass runs, each announced parameter's operation has already let go of its input.
TEST_F(Autograd, MemoryFallsDuringTheBackwardPass) {
  struct Watch : GradientSink {
    PlainParameters* plain;
    Allocator* allocator;
    std::vector<std::int64_t> live;
    GradientSlot slot(Parameter& p) override { return plain->slot(p); }
    void complete(Parameter&) override { live.push_back(allocator->use().of(Category::activations)); }
  };
  for (int i = 0; i < 6; ++i) matrix(fmt::format("m{}", i), 16);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Watch watch;
  watch.plain = &plain;
  watch.allocator = device->allocator().get();
  Tape tape(*device, true);
  Variable x = tape.variable(ones({4, 16}));
  for (Parameter* p : parameters) x = ops::linear(tape, x, *p, nullptr);
  const Variable loss = sum(tape, x);
  x = nullptr;
  tape.backward(loss, 1, parameters, watch);
  const std::int64_t one = 4 * 16 * 4;
  ASSERT_EQ(watch.live.size(), 6u);
  // Each step frees its input; the last one frees the gradient of `x`, which nobody holds.
  for (std::size_t i = 1; i < 6; ++i) EXPECT_EQ(watch.live[i - 1] - watch.live[i], one) << i;
}

TEST_F(Autograd, ScaleMultipliesEveryGradient) {
  Parameter& a = matrix("a", 2);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, true);
  tape.backward(sum(tape, ops::linear(tape, tape.constant(ones({1, 2})), a, nullptr)), 0.25f, parameters, plain);
  EXPECT_EQ(to_numbers(a.gradient), Numbers(4, 0.25));
}

namespace {

// Three matrices of which the last two are one checkpoint, or none; one is used in it twice.
struct Segmented {
  Parameter &a, &b, &c;
  Variable operator()(Tape& tape, const Variable& x, bool checkpoint) const {
    const Variable y = ops::linear(tape, x, a, nullptr);
    const auto segment = [this](Tape& t, const Variable& in) {
      const Variable twice = ops::linear(t, ops::linear(t, in, b, nullptr), b, nullptr);
      return ops::add(t, in, ops::dropout(t, ops::linear(t, twice, c, nullptr), {0.5, 3, 4, 0}));
    };
    return checkpoint ? tape.checkpoint(y, segment) : segment(tape, y);
  }
};

}  // namespace

// A parameter is announced when its gradient is complete, not when the checkpoint is reached.
TEST_F(Autograd, ACheckpointChangesNoBitAndNoOrder) {
  struct Watch : GradientSink {
    PlainParameters* plain;
    std::vector<Numbers> complete_gradients;
    GradientSlot slot(Parameter& p) override { return plain->slot(p); }
    void complete(Parameter& p) override {
      plain->complete(p);
      complete_gradients.push_back(to_numbers(p.gradient));
    }
  };
  Parameter &a = matrix("a", 3), &b = matrix("b", 3), &c = matrix("c", 3);
  const Segmented network{a, b, c};
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  std::vector<Numbers> expected;
  for (const bool checkpoint : {false, true}) {
    plain.start_step();
    Watch watch;
    watch.plain = &plain;
    Tape tape(*device, true);
    const Variable y = network(tape, tape.constant(ones({4, 3})), checkpoint);
    std::vector<Numbers> seen = {to_numbers(y->value)};
    tape.backward(sum(tape, y), 1, parameters, watch);
    for (const Numbers& gradient : watch.complete_gradients) seen.push_back(gradient);
    EXPECT_THAT(names(plain.completed()), ElementsAre("c", "b", "a"));
    if (checkpoint) {
      EXPECT_EQ(seen, expected);
    }
    expected = seen;
  }
  Tape silent(*device, false);
  EXPECT_EQ(to_numbers(network(silent, silent.constant(ones({4, 3})), true)->value),
            to_numbers(network(silent, silent.constant(ones({4, 3})), false)->value));
}

TEST_F(Autograd, ACheckpointKeepsItsInputOnlyAndRunsTwice) {
  Parameter& a = matrix("a", 16);
  PlainParameters plain(*device, parameters, Dtype::float32, 1);
  Tape tape(*device, true);
  int runs = 0;
  Variable x = tape.variable(ones({4, 16}));
  const Variable y = tape.checkpoint(x, [&](Tape& t, Variable in) {
    ++runs;
    for (int i = 0; i < 10; ++i) in = ops::linear(t, in, a, nullptr);
    return in;
  });
  EXPECT_EQ(device->allocator()->use().of(Category::activations), 4 * 16 * 4);  // the result; the input is a test's own
  tape.backward(sum(tape, y), 1, parameters, plain);
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(plain.completed().size(), 1u);
}

TEST_F(Autograd, AWeightWithoutAValueIsNamed) {
  Parameter& a = matrix("a", 2);
  Tape tape(*device, false);
  EXPECT_THAT(message_of<InternalError>([&] {
                ops::linear(tape, tape.constant(ones({1, 2})), a, nullptr);
              }),
              HasSubstr("a is read where its value is not there"));
}
