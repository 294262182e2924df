#include "core/autograd/ops/attention.h"

#include "core/autograd/ops/rotary.h"
#include "core/device/blas.h"
#include "op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

struct Sizes {
  std::size_t batch, time, heads, head_size;
  std::size_t width() const { return heads * head_size; }
  AttentionHeads attention() const { return {std::int64_t(heads), std::int64_t(heads), std::int64_t(head_size)}; }
  Shape shape() const { return {std::int64_t(batch), std::int64_t(time), std::int64_t(3 * width())}; }
};

Numbers attention_reference(const Numbers& qkv, const Sizes& s) {
  const std::size_t c = s.width();
  Numbers y(s.batch * s.time * c);
  const auto at = [&](std::size_t b, std::size_t t, std::size_t part, std::size_t h, std::size_t i) {
    return qkv[(b * s.time + t) * 3 * c + part * c + h * s.head_size + i];
  };
  for (std::size_t b = 0; b < s.batch; ++b)
    for (std::size_t h = 0; h < s.heads; ++h)
      for (std::size_t t = 0; t < s.time; ++t) {
        Numbers weights(t + 1);
        double total = 0;
        for (std::size_t j = 0; j <= t; ++j) {
          double dot = 0;
          for (std::size_t i = 0; i < s.head_size; ++i) dot += at(b, t, 0, h, i) * at(b, j, 1, h, i);
          total += weights[j] = std::exp(dot / std::sqrt(double(s.head_size)));
        }
        for (std::size_t i = 0; i < s.head_size; ++i) {
          double sum = 0;
          for (std::size_t j = 0; j <= t; ++j) sum += weights[j] / total * at(b, j, 2, h, i);
          y[(b * s.time + t) * c + h * s.head_size + i] = sum;
        }
      }
  return y;
}

Numbers rotary_reference(Numbers x, const Sizes& s) {
  const std::size_t half = s.head_size / 2, c = s.width();
  for (std::size_t r = 0; r < s.batch * s.time; ++r)
    for (std::size_t h = 0; h < 2 * s.heads; ++h)
      for (std::size_t i = 0; i < half; ++i) {
        const double angle = double(r % s.time) * std::pow(10000.0, -2.0 * double(i) / double(s.head_size));
        double& a = x[r * 3 * c + h * s.head_size + i];
        double& b = x[r * 3 * c + h * s.head_size + half + i];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
  return x;
}

OpCase attention_case(const Sizes& s) {
  OpCase c;
  c.inputs = {s.shape()};
  c.op = [=](Tape& tape, const auto& x, const auto&) { return ops::attention(tape, x[0], s.attention()); };
  c.reference = [=](const std::vector<Numbers>& v) { return attention_reference(v[0], s); };
  return c;
}

}  // namespace

TEST(Attention, MatchesReferenceAndDifferences) {
  check_op(attention_case({2, 5, 3, 4}));
  check_op(attention_case({1, 1, 1, 2}));
  check_op(attention_case({3, 4, 2, 1}));
}

TEST(Attention, SeveralQueryBlocksMatchReferenceAndDifferences) {
  check_op(attention_case({1, 71, 1, 2}));  // a full block of 64 queries and a part of one
}

TEST(Attention, LongSequencesMatchTheReference) {
  auto device = make_test_device(2);
  for (const std::size_t time : {64u, 128u, 200u}) {
    const Sizes s{1, time, 2, 8};
    Numbers x(std::size_t(element_count(s.shape())));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = double(normal(1, 2, i));
    Tape tape(*device, false);
    const Variable y = ops::attention(tape, tape.constant(to_tensor(*device, s.shape(), Dtype::float32, x)), s.attention());
    const Numbers got = to_numbers(y->value), expected = attention_reference(x, s);
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 64 * 0x1p-24) << time;
  }
}

TEST(Attention, LaterPositionsDoNotChangeEarlierOnes) {
  auto device = make_test_device(1);
  const Sizes s{1, 9, 2, 4};
  Numbers x(std::size_t(element_count(s.shape())));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = double(normal(1, 3, i));
  Tape tape(*device, false);
  const auto run = [&] {
    return to_numbers(
        ops::attention(tape, tape.constant(to_tensor(*device, s.shape(), Dtype::float32, x)), s.attention())->value);
  };
  const Numbers before = run();
  for (std::size_t i = 6 * 3 * s.width(); i < x.size(); ++i) x[i] = 1e6;
  const Numbers after = run();
  const auto end = std::ptrdiff_t(6 * s.width());
  EXPECT_EQ(Numbers(before.begin(), before.begin() + end), Numbers(after.begin(), after.begin() + end));
}

TEST(Attention, LargeScoresDoNotOverflow) {
  auto device = make_test_device(1);
  const Sizes s{1, 4, 1, 2};
  const Numbers x(std::size_t(element_count(s.shape())), 1000.0);  // scores of 1.4e6
  Tape tape(*device, false);
  const Variable y = ops::attention(tape, tape.constant(to_tensor(*device, s.shape(), Dtype::float32, x)), s.attention());
  for (const double v : to_numbers(y->value)) EXPECT_NEAR(v, 1000, 1e-3);
}

TEST(Attention, ScratchOfTheCpuGrowsWithTimeNotItsSquare) {
  auto device = make_cpu_test_device(2);
  constexpr std::int64_t kHeads = 8, kSize = 8, kBatch = 4;
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

// The GPU's scratch is four blocks of scores (of queries, of their gradients, as float32 and in the
// activations' type) of at most 16 Mi each, in blocks of no fewer than 64 queries. The CPU's is less.
TEST(Attention, ScratchIsBoundedByTheBlocksOfQueries) {
  auto device = make_test_device();
  constexpr std::int64_t kHeads = 32, kTime = 1024, kBlock = std::int64_t{16} << 20;
  const Tensor qkv = Tensor::zeros(*device, {1, kTime, 3 * kHeads}, Dtype::float32, Category::other);
  Tape tape(*device, true);
  const Variable y = ops::attention(tape, tape.variable(qkv), {kHeads, kHeads, 1});
  PlainParameters none(*device, {}, Dtype::float32, 1);
  device->allocator()->reset_peak();
  tape.backward(weighted_sum(tape, y, Numbers(std::size_t(y->value.size()), 1.0)), 1, {}, none);
  const std::int64_t peak = device->allocator()->use().peak_of(Category::activations);
  EXPECT_LT(peak, 4 * kBlock * 4 + 8 * qkv.bytes());
  static_assert(4 * kHeads * kTime * kTime * 4 > 4 * kBlock * 4 + 8 * 3 * kHeads * kTime * 4, "all scores are more");
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

TEST(Rotary, MatchesReferenceAndDifferences) {
  for (const Sizes s : {Sizes{2, 5, 2, 6}, Sizes{1, 3, 1, 2}}) {
    OpCase c;
    c.inputs = {s.shape()};
    c.op = [=](Tape& tape, const auto& x, const auto&) {
      ops::RotaryTable angles(ops::rotary_frequencies(std::int64_t(s.head_size)), std::int64_t(s.time) + 3);
      return ops::rotary(tape, x[0], s.attention(), angles);
    };
    c.reference = [=](const std::vector<Numbers>& v) { return rotary_reference(v[0], s); };
    check_op(c);
  }
}

TEST(Rotary, ScoresDependOnTheDistanceOnly) {
  // The same query and key at every position: after turning, q(t)·k(t') is a function of t − t'.
  auto device = make_test_device(1);
  constexpr std::size_t kTime = 6, kSize = 8;
  Numbers x(kTime * 3 * kSize);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = double(normal(4, 4, i % (3 * kSize)));
  Tape tape(*device, false);
  const Shape shape{1, kTime, 3 * kSize};
  ops::RotaryTable angles(ops::rotary_frequencies(kSize), kTime);
  const Numbers y = to_numbers(
      ops::rotary(tape, tape.constant(to_tensor(*device, shape, Dtype::float32, x)), {1, 1, kSize}, angles)->value);
  const auto score = [&](std::size_t t, std::size_t u) {
    double sum = 0;
    for (std::size_t i = 0; i < kSize; ++i) sum += y[t * 3 * kSize + i] * y[u * 3 * kSize + kSize + i];
    return sum;
  };
  for (std::size_t t = 2; t < kTime; ++t) EXPECT_NEAR(score(t, t - 2), score(2, 0), 1e-5);
  EXPECT_GT(std::abs(score(2, 0) - score(3, 0)), 1e-3);
}

TEST(Rotary, AnglesAreComputedOnceAndServeShorterSequences) {
  auto device = make_test_device(1);
  ops::RotaryTable angles(ops::rotary_frequencies(4), 6);
  const void* first = angles.on(*device).raw();
  const Numbers x(std::size_t(6 * 12), 0.5);
  for (const std::int64_t time : {6, 3}) {
    Tape tape(*device, false);
    const Variable in = tape.constant(to_tensor(*device, {6 / time, time, 12}, Dtype::float32, x));
    ops::rotary(tape, in, {1, 1, 4}, angles);
  }
  EXPECT_EQ(angles.on(*device).raw(), first);
  Tape tape(*device, false);
  const Variable longer = tape.constant(Tensor::zeros(*device, {1, 7, 12}, Dtype::float32, Category::other));
  EXPECT_THROW(ops::rotary(tape, longer, {1, 1, 4}, angles), InternalError);
}
