#include "core/autograd/ops/rotary.h"

#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

const std::vector<double> kFrequencies = {1.0, 0.3, 0.01};  // not a power series, as a scaled table is not

// position(b, t).
template <class Position>
Numbers rotary_reference(Numbers x, const AttentionCase& c, const std::vector<double>& frequencies, double scale,
                         const Position& position) {
  const std::size_t half = frequencies.size();
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t t = 0; t < c.time; ++t)
      for (std::int64_t h = 0; h < c.heads.queries + c.heads.keys; ++h)
        for (std::size_t i = 0; i < half; ++i) {
          const double angle = double(position(b, t)) * frequencies[i];
          double& first = x[c.place(b, t, 0, 0) + at(h * c.heads.size) + i];
          double& second = x[c.place(b, t, 0, 0) + at(h * c.heads.size) + half + i];
          const double turned = scale * (first * std::cos(angle) - second * std::sin(angle));
          second = scale * (second * std::cos(angle) + first * std::sin(angle));
          first = turned;
        }
  return x;
}

}  // namespace

TEST(Rotary, MatchesReferenceAndDifferences) {
  for (const AttentionCase& a : small_attention_cases(6)) {
    SCOPED_TRACE(a.text());
    OpCase c;
    c.inputs = {a.shape()};
    c.op = [=](Tape& tape, const auto& x, const auto&) {
      ops::RotaryTable angles(kFrequencies, a.time + 3, 1.25);
      return ops::rotary(tape, x[0], a.heads, angles, a.begins_on(tape.device()));
    };
    c.reference = [=](const std::vector<Numbers>& v) {
      return rotary_reference(v[0], a, kFrequencies, 1.25, [&](std::int64_t b, std::int64_t t) {
        return a.begins.empty() ? t : t - a.begins[at(b * a.time + t)];
      });
    };
    check_op(c);
  }
}

TEST(Rotary, FrequenciesFallFromOneByTheBase) {
  EXPECT_EQ(ops::rotary_frequencies(2), std::vector<double>{1.0});
  const std::vector<double> f = ops::rotary_frequencies(6, 5e5);
  ASSERT_EQ(f.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(f[i], std::pow(5e5, -2.0 * double(i) / 6), 1e-15);
  EXPECT_THROW(ops::rotary_frequencies(3), InternalError);
}

TEST(Rotary, GenerationGoesOnWhereEachSequenceIs) {
  auto device = make_test_device(1);
  const AttentionCase c = {3, 2, {2, 1, 6}};
  const std::vector<std::int64_t> lengths = {0, 5, 300};
  const Numbers x = random_numbers(c.shape(), 8);
  ops::RotaryTable angles(kFrequencies, 302);
  Tape tape(*device, false);
  const Variable in = tape.constant(to_tensor(*device, c.shape(), Dtype::float32, x));
  const Numbers got = to_numbers(ops::rotary_at(tape, in, c.heads, angles, lengths)->value);
  const Numbers expected =
      rotary_reference(x, c, kFrequencies, 1, [&](std::int64_t b, std::int64_t t) { return lengths[at(b)] + t; });
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 16 * 0x1p-24) << i;
  EXPECT_THROW(ops::rotary_at(tape, in, c.heads, angles, std::vector<std::int64_t>{0, 5, 301}), InternalError);
  EXPECT_THROW(ops::rotary_at(tape, in, c.heads, angles, std::vector<std::int64_t>{0, 5}), InternalError);
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
