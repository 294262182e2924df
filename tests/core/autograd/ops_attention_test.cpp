#include "core/autograd/ops/attention.h"

#include <gmock/gmock.h>

#include "core/device/attention.h"
#include "core/device/blas.h"
#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

AttentionCase plain(std::int64_t batch, std::int64_t time, std::int64_t heads, std::int64_t size) {
  return {batch, time, {heads, heads, size}};
}

OpCase op_case(const AttentionCase& a) {
  OpCase c;
  c.inputs = {a.shape()};
  c.op = [=](Tape& tape, const auto& x, const auto&) {
    return ops::attention(tape, x[0], a.heads, a.begins_on(tape.device()));
  };
  c.reference = [=](const std::vector<Numbers>& v) { return attention_reference(v[0], a); };
  return c;
}

Numbers value(Device& device, const AttentionCase& c, const Numbers& x, Dtype dtype = Dtype::float32) {
  Tape tape(device, false);
  return to_numbers(
      ops::attention(tape, tape.constant(to_tensor(device, c.shape(), dtype, x)), c.heads, c.begins_on(device))->value);
}

}  // namespace

TEST(Attention, MatchesReferenceAndDifferences) {
  for (const std::int64_t size : {1, 4})
    for (const AttentionCase& c : small_attention_cases(size)) {
      SCOPED_TRACE(c.text());
      check_op(op_case(c));
    }
}

TEST(Attention, SeveralQueryBlocksMatchReferenceAndDifferences) {
  for (const AttentionCase& c : long_attention_cases(2)) {
    SCOPED_TRACE(c.text());
    check_op(op_case(c));
  }
}

TEST(Attention, ThreadsChangeNoBit) {
  const AttentionCase c = {3, 70, {6, 2, 8}, begins_of(70, {{5, 40}, {}, {69}})};
  const Numbers x = random_numbers(c.shape(), 11), weights = random_numbers({c.batch, c.time, c.heads.query_width()}, 12);
  std::vector<Numbers> gradients;
  for (const int threads : {1, 2}) {
    auto device = make_cpu_test_device(threads);
    Tape tape(*device, true);
    const Variable in = tape.variable(to_tensor(*device, c.shape(), Dtype::float32, x));
    const Variable y = ops::attention(tape, in, c.heads, c.begins_on(*device));
    PlainParameters none(*device, {}, Dtype::float32, 1);
    tape.backward(weighted_sum(tape, y, weights), 1, {}, none);
    gradients.push_back(to_numbers(in->gradient->tensor));
  }
  EXPECT_EQ(gradients[0], gradients[1]);
}

// A window that reaches everything, one document, and a key head for each query head are the plain case, in every bit.
TEST(Attention, BoundsThatExcludeNothingChangeNoBit) {
  auto device = make_test_device(2, Bfloat16::emulated);
  const AttentionCase c = plain(2, 130, 2, 8);
  const Numbers x = random_numbers(c.shape(), 5);
  AttentionCase window = c, documents = c;
  window.heads.window = 130;
  documents.begins = begins_of(130, {{}, {}});
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
    const Numbers expected = value(*device, c, x, dtype);
    EXPECT_EQ(value(*device, window, x, dtype), expected);
    EXPECT_EQ(value(*device, documents, x, dtype), expected);
  }
}

// What is not seen may be anything, and the scores of what is seen do not depend on where a document lies.
TEST(Attention, DocumentsDoNotSeeEachOther) {
  auto device = make_test_device(2);
  const AttentionCase packed = {1, 100, {2, 1, 4}, begins_of(100, {{70}})}, alone = {1, 30, {2, 1, 4}};
  Numbers x = random_numbers(packed.shape(), 6);
  const auto from = static_cast<std::ptrdiff_t>(packed.place(0, 70, 0, 0));
  const Numbers expected = value(*device, alone, Numbers(x.begin() + from, x.end()));
  for (std::ptrdiff_t i = 0; i < from; ++i) x[at(i)] *= 1e4;
  const Numbers got = value(*device, packed, x);
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(got[got.size() - expected.size() + i], expected[i], 16 * 0x1p-24);
}

// Over all sequences and what queries see, above what was there; and no bit of the result changes.
TEST(Attention, RaisesToTheLargestLogits) {
  auto device = make_test_device(2, Bfloat16::emulated);
  std::vector<AttentionCase> cases = small_attention_cases(4);
  std::ranges::copy(long_attention_cases(2), std::back_inserter(cases));
  for (const AttentionCase& c : cases)
    for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
      SCOPED_TRACE(c.text());
      const Tensor highest = Tensor::empty(*device, {c.heads.queries}, Dtype::float32, Category::other);
      set_values(highest, std::vector<float>(at(c.heads.queries), -INFINITY));
      Numbers expected(at(c.heads.queries), -INFINITY);
      for (const std::uint64_t seed : {1, 2}) {
        const Numbers x = random_numbers(c.shape(), seed), of_pass = attention_maxima(x, c);
        Tape tape(*device, false);
        const Variable y = ops::attention(tape, tape.constant(to_tensor(*device, c.shape(), dtype, x)), c.heads,
                                          c.begins_on(*device), highest);
        EXPECT_EQ(to_numbers(y->value), value(*device, c, x, dtype));
        const Numbers got = to_numbers(highest);
        for (std::size_t h = 0; h < got.size(); ++h) {
          expected[h] = std::max(expected[h], of_pass[h]);
          EXPECT_NEAR(got[h], expected[h], 16 * 0x1p-24 * (1 + std::abs(expected[h]))) << "head " << h << ", seed " << seed;
        }
      }
    }
}

TEST(Attention, RefusesHeadsAndBeginsThatDoNotFit) {
  auto device = make_test_device(1);
  Tape tape(*device, false);
  const Variable x = tape.constant(Tensor::zeros(*device, {1, 3, 8}, Dtype::float32, Category::other));
  EXPECT_THROW(ops::attention(tape, x, {3, 2, 1}), InternalError);
  EXPECT_THROW(ops::attention(tape, x, {2, 2, 2}), InternalError);
  EXPECT_THROW(ops::attention(tape, x, {2, 1, 2}, {}, Tensor::zeros(*device, {3}, Dtype::float32, Category::other)),
               InternalError);
  const Tensor begins = Tensor::zeros(*device, {1, 2}, Dtype::int32, Category::other);
  EXPECT_THROW(ops::attention(tape, x, {2, 1, 2}, begins), InternalError);
  EXPECT_EQ(ops::attention(tape, x, {2, 1, 2})->value.shape(), (Shape{1, 3, 4}));
}

TEST(Attention, LongSequencesMatchTheReference) {
  auto device = make_test_device(2);
  for (const std::int64_t time : {64, 128, 200}) {
    const AttentionCase c = plain(1, time, 2, 8);
    const Numbers x = random_numbers(c.shape(), 1), got = value(*device, c, x), expected = attention_reference(x, c);
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 64 * 0x1p-24) << time;
  }
}

TEST(Attention, LaterPositionsDoNotChangeEarlierOnes) {
  auto device = make_test_device(1);
  const AttentionCase c = plain(1, 9, 2, 4);
  Numbers x = random_numbers(c.shape(), 3);
  const Numbers before = value(*device, c, x);
  for (std::size_t i = c.place(0, 6, 0, 0); i < x.size(); ++i) x[i] = 1e6;
  const Numbers after = value(*device, c, x);
  const auto end = static_cast<std::ptrdiff_t>(c.out_place(0, 6, 0));
  EXPECT_EQ(Numbers(before.begin(), before.begin() + end), Numbers(after.begin(), after.begin() + end));
}

TEST(Attention, LargeScoresDoNotOverflow) {
  auto device = make_test_device(1);
  const AttentionCase c = plain(1, 4, 1, 2);
  const Numbers x(at(element_count(c.shape())), 1000.0);  // scores of 1.4e6
  for (const double v : value(*device, c, x)) EXPECT_NEAR(v, 1000, 1e-3);
}

TEST(Attention, ScratchGrowsWithTimeNotItsSquare) {
  auto device = make_test_device(2);
  constexpr std::int64_t kHeads = 2, kSize = 8, kBatch = 1;
  const auto peak = [&](std::int64_t time) {
    Tape tape(*device, true);
    const Variable x =
        tape.variable(Tensor::zeros(*device, {kBatch, time, 3 * kHeads * kSize}, Dtype::float32, Category::other));
    device->allocator()->reset_peak();
    const Variable y = ops::attention(tape, x, {kHeads, kHeads, kSize});
    PlainParameters none(*device, {}, Dtype::float32, 1);
    tape.backward(weighted_sum(tape, y, Numbers(std::size_t(y->value.size()), 1.0)), 1, {}, none);
    return device->allocator()->use().peak_of(Category::activations);
  };
  const std::int64_t at_256 = peak(256), at_512 = peak(512);
  EXPECT_LT(at_512, 512 * 512 * kHeads * kBatch * 4) << "as much as all scores";
  EXPECT_LT(at_512, 2 * at_256 + 4096);
}

// What a plan is told is what the backward pass takes, beside the gradients.
TEST(Attention, ScratchIsAsPlanned) {
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const AttentionCase& c : std::vector<AttentionCase>{{2, 150, {4, 4, 8}},
                                                             {2, 150, {4, 2, 8}},
                                                             {9, 70, {4, 1, 8}},
                                                             {1, 300, {4, 2, 8, 20}},
                                                             {2, 70, {2, 1, 100}},
                                                             {1, 150, {2, 1, 8}, begins_of(150, {{70}})}}) {
      auto device = make_test_device(2, Bfloat16::emulated);
      const AttentionShape shape = {c.batch, c.time, c.heads, !c.begins.empty()};
      const Tensor x = Tensor::zeros(*device, c.shape(), dtype, Category::other),
                   y = Tensor::zeros(*device, {c.batch, c.time, c.heads.query_width()}, dtype, Category::other),
                   sums = Tensor::zeros(*device, {c.batch, c.heads.queries, c.time}, Dtype::float32, Category::other);
      device->allocator()->reset_peak();
      attention_backward(*device, shape, x, c.begins_on(*device), y, sums, y,
                         Tensor::empty(*device, c.shape(), dtype, Category::other));
      const std::int64_t peak = device->allocator()->use().peak_of(Category::activations);
      EXPECT_NEAR(double(attention_backward_scratch(shape, dtype, device->kind())), double(peak), 0.01 * double(peak) + 4096)
          << c.text();
    }
}

// A configuration is refused before that (models/registry.h).
TEST(Attention, AGpuTakesNoLargerHeadThan128) {
  EXPECT_EQ(attention_refusal({4, 4, 256}, DeviceKind::cpu), "");
  EXPECT_EQ(attention_refusal({4, 4, 128}, DeviceKind::cuda), "");
  EXPECT_THAT(attention_refusal({4, 4, 129}, DeviceKind::cuda),
              ::testing::HasSubstr("attention on a GPU takes heads of up to 128, not of 129; choose model.heads"));
  if (!on_gpu()) return;
  auto device = make_test_device();
  Tape tape(*device, false);
  const Variable x = tape.constant(Tensor::zeros(*device, {1, 3, 3 * 136}, Dtype::float32, Category::other));
  EXPECT_THROW(ops::attention(tape, x, {1, 1, 136}), InternalError);
}

// The CPU's loop, which runs heads on several threads.
TEST(Attention, FailureInsideTheLoopOverHeadsReachesTheCaller) {
  if (!bfloat16_refusal(DeviceKind::cpu).empty()) {
    auto device = make_cpu_test_device(2);
    Tape tape(*device, false);
    const Variable x = tape.constant(Tensor::zeros(*device, {2, 3, 12}, Dtype::bfloat16, Category::other));
    EXPECT_THROW(ops::attention(tape, x, {2, 2, 2}), Error);
  } else {
    GTEST_SKIP() << "this processor multiplies bfloat16, so nothing fails";
  }
}
