// Attention against double precision, value and gradients, on the shapes of each of its kernels: on a GPU whole sequences of
// lengths that 64 divides are cuDNN's in bfloat16 where it is and heads are of multiples of 8, all others our own kernel's.
// The tolerance of an element is what the roundings of the stored values and of sums in float32 can do to it, to first
// order, twice.
#include "core/autograd/ops/attention.h"
#include "core/device/attention.h"
#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

constexpr double kSum = 0x1p-24;                                                         // of one addition in float32
constexpr double kExp = 0x1p-22;                                                         // of a power of two on a GPU
double rounding_of(Dtype dtype) { return dtype == Dtype::bfloat16 ? 0x1p-9 : 0x1p-25; }  // of a stored value, to nearest

using Sizes = AttentionCase;

Shape out_shape(const Sizes& s) { return {s.batch, s.time, s.heads.query_width()}; }

// A value and a bound on what roundings change of it.
struct Bounded {
  Numbers value, error;
  explicit Bounded(std::size_t count) : value(count), error(count) {}
  void add(std::size_t i, double v, double e) { value[i] += v, error[i] += e; }
  void round(double by) {  // when it is stored
    for (std::size_t i = 0; i < value.size(); ++i) error[i] += by * std::abs(value[i]);
  }
};

// Numbers that use all bits of the type: an operand that is rounded further is seen.
Numbers numbers_of(Dtype dtype, const Shape& shape, std::uint64_t seed) {
  Numbers numbers = random_numbers(shape, seed);
  if (dtype == Dtype::float32)
    for (double& x : numbers) x = double(float(1.1 * x));
  return numbers;
}

struct Results {
  Bounded out, dqkv;
};

// A sum of products of the elements of two rows, and what adding them in float32 changes of it.
struct Dot {
  double sum = 0, error = 0;
};

// The rows of one head. The weights and the gradients of the scores are rounded before they are multiplied.
class Head {
 public:
  Head(const Sizes& s, Dtype dtype, std::int64_t b, std::int64_t h, const Numbers& qkv, const Numbers& dout, Results& r)
      : s_(s), round_(rounding_of(dtype)), b_(b), h_(h), qkv_(qkv), dout_(dout), r_(r) {}

  void row(std::int64_t t) {
    const std::int64_t first = s_.first_seen(b_, t);
    const double scale = 1 / std::sqrt(double(size())), terms = double(t + 1 - first);
    Numbers w(at(t + 1));
    double total = 0, of_scores = 0;  // the largest error of an exponent, which is that of the weights' sum too
    for (std::int64_t j = first; j <= t; ++j) {
      const Dot score = dot(qkv_, place(t, 0), qkv_, place(j, 1));
      total += w[at(j)] = std::exp(scale * score.sum);
      of_scores = std::max(of_scores, scale * (score.error + 4 * kSum * std::abs(score.sum)));
    }
    of_scores += 2 * kSum * std::abs(std::log(total));
    const double of_weight = 2 * (of_scores + kExp) + terms * kSum;  // relative
    for (double& x : w) x /= total;
    double delta = 0, delta_error = 0;  // of Σ dO·O
    for (std::size_t i = 0; i < size(); ++i) {
      double sum = 0, largest = 0;
      for (std::int64_t j = first; j <= t; ++j) {
        sum += w[at(j)] * qkv_[place(j, 2) + i];
        largest += w[at(j)] * std::abs(qkv_[place(j, 2) + i]);
      }
      const std::size_t o = s_.out_place(b_, t, h_) + i;
      const double error = (round_ + of_weight + terms * kSum) * largest;
      r_.out.add(o, sum, error);
      delta += dout_[o] * sum;
      delta_error += std::abs(dout_[o]) * (error + (round_ + double(size()) * kSum) * std::abs(sum));
    }
    for (std::int64_t j = first; j <= t; ++j) gradients(t, j, w[at(j)], of_weight, delta, delta_error);
  }

 private:
  // The sums go over the keys of a query, or the queries of a key and of the heads that share it.
  void gradients(std::int64_t t, std::int64_t j, double w, double of_weight, double delta, double delta_error) {
    const double scale = 1 / std::sqrt(double(size()));
    const double of_sum = round_ + double(s_.time * s_.heads.group()) * kSum;
    const std::size_t o = s_.out_place(b_, t, h_);
    const Dot dw = dot(dout_, o, qkv_, place(j, 2));
    const double ds = w * (dw.sum - delta) * scale;
    const double error = (of_sum + of_weight) * std::abs(ds) + w * scale * (delta_error + dw.error);
    for (std::size_t i = 0; i < size(); ++i) {
      const double q = qkv_[place(t, 0) + i], k = qkv_[place(j, 1) + i], d = dout_[o + i];
      r_.dqkv.add(place(j, 2) + i, w * d, (of_sum + of_weight) * w * std::abs(d));
      r_.dqkv.add(place(t, 0) + i, ds * k, error * std::abs(k));
      r_.dqkv.add(place(j, 1) + i, ds * q, error * std::abs(q));
    }
  }
  Dot dot(const Numbers& a, std::size_t of_a, const Numbers& b, std::size_t of_b) const {
    Dot d;
    for (std::size_t i = 0; i < size(); ++i) {
      d.sum += a[of_a + i] * b[of_b + i];
      d.error += double(size()) * kSum * std::abs(a[of_a + i] * b[of_b + i]);
    }
    return d;
  }
  std::size_t place(std::int64_t t, int part) const { return s_.place(b_, t, part, h_); }
  std::size_t size() const { return at(s_.heads.size); }

  const Sizes& s_;
  double round_;
  std::int64_t b_, h_;
  const Numbers &qkv_, &dout_;
  Results& r_;
};

Results reference(const Sizes& s, Dtype dtype, const Numbers& qkv, const Numbers& dout) {
  Results r{Bounded(dout.size()), Bounded(qkv.size())};
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads.queries; ++h)
      for (std::int64_t t = 0; t < s.time; ++t) Head(s, dtype, b, h, qkv, dout, r).row(t);
  r.out.round(rounding_of(dtype));
  r.dqkv.round(rounding_of(dtype));
  return r;
}

struct Computed {
  Numbers out, dqkv;
};

Computed compute(Device& device, const Sizes& s, Dtype dtype, const Numbers& qkv, const Numbers& dout) {
  Tape tape(device, true);
  const Variable x = tape.variable(to_tensor(device, s.shape(), dtype, qkv));
  const Variable y = ops::attention(tape, x, s.heads, s.begins_on(device));
  PlainParameters none(device, {}, dtype, 1);
  tape.backward(weighted_sum(tape, y, dout), 1, {}, none);
  return {to_numbers(y->value), to_numbers(x->gradient->tensor)};
}

// How cuDNN adds is not known: in bfloat16 there is a little room beside the bound.
void expect_within(const char* what, Dtype dtype, const Numbers& got, const Bounded& expected) {
  double largest = 0;
  for (const double v : expected.value) largest = std::max(largest, std::abs(v));
  const double room = dtype == Dtype::bfloat16 ? 64 * kSum * largest : 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected.value[i], 2 * expected.error[i] + room) << what << ", element " << i;
}

void expect_within_roundings(const std::vector<Sizes>& all) {
  auto device = make_test_device(2, Bfloat16::emulated);
  for (const Sizes& s : all)
    for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16}) {
      const AttentionShape shape{s.batch, s.time, s.heads, !s.begins.empty()};
      SCOPED_TRACE(fmt::format("{}, {}: {}", name_of(dtype), s.text(), describe_attention(shape, dtype)));
      const Numbers qkv = numbers_of(dtype, s.shape(), 1), dout = numbers_of(dtype, out_shape(s), 2);
      const Results expected = reference(s, dtype, qkv, dout);
      const Computed got = compute(*device, s, dtype, qkv, dout);
      expect_within("value", dtype, got.out, expected.out);
      expect_within("gradient", dtype, got.dqkv, expected.dqkv);
    }
}

}  // namespace

TEST(Attention, IsWithinItsRoundings) {
  expect_within_roundings({{2, 64, {3, 3, 16}},
                           {1, 192, {1, 1, 64}},
                           {3, 70, {2, 2, 8}},
                           {1, 64, {1, 1, 24}},
                           {2, 1, {2, 2, 8}},
                           {1, 128, {1, 1, 128}},
                           {2, 128, {6, 2, 16}},
                           {1, 192, {2, 2, 16, 64}},
                           {1, 150, {4, 1, 8, 33}},
                           {2, 128, {2, 1, 16}, begins_of(128, {{60, 1, 20}, {128}})},
                           {1, 300, {2, 1, 64}},  // several tiles of the GPU's own kernel
                           {1, 261, {4, 2, 24, 130}},
                           {2, 129, {2, 2, 128}, begins_of(129, {{1, 40}, {127, 1}})},
                           {1, 200, {3, 1, 80, 100}, begins_of(200, {{30, 150}})},
                           {1, 96, {2, 1, 32, 1}}});
}

// Heads of sizes that 16 bytes do not divide, in one type or in both, are moved element by element on a GPU.
TEST(Attention, HeadsOfAnySizeAreWithinTheirRoundings) {
  for (const std::int64_t size : {1, 3, 20, 40, 100, 128})
    expect_within_roundings(
        {{2, 70, {4, 2, size}}, {1, 64, {2, 2, size}}, {1, 140, {2, 1, size, 50}, begins_of(140, {{30, 1, 64}})}});
}

// Fused, at a size where the gradients that cuDNN sums with atomics differ between runs.
TEST(Attention, RepeatsInEveryBit) {
  auto device = make_test_device(2, Bfloat16::emulated);
  const bool fused = on_gpu() && describe_attention({16, 1024, {12, 12, 64}}, Dtype::bfloat16).starts_with("fused by cuDNN");
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16})
    for (const Sizes& s : {fused ? Sizes{16, 1024, {12, 12, 64}} : Sizes{1, 64, {2, 2, 8}}, Sizes{2, 70, {1, 1, 8}},
                           Sizes{2, 70, {4, 2, 8, 9}}, Sizes{1, 150, {2, 1, 3}}}) {
      const Numbers qkv = random_numbers(s.shape(), 3), dout = random_numbers(out_shape(s), 4);
      const Computed first = compute(*device, s, dtype, qkv, dout);
      for (int i = 0; i < 3; ++i) {
        const Computed again = compute(*device, s, dtype, qkv, dout);
        EXPECT_EQ(again.out, first.out);
        EXPECT_EQ(again.dqkv, first.dqkv);
      }
    }
}

// A GPU takes the sequences of cuDNN's backward pass in pieces; a piece is never empty nor beyond what there is.
TEST(Attention, PiecesOfAFusedBackwardPassCoverAllHeads) {
  for (const std::int64_t batch : {1, 3, 61, 64})
    for (const std::int64_t time : {64, 1024, 8192, 65536})
      for (const std::int64_t heads : {1, 12, 25}) {
        const FusedPiece piece = fused_piece({batch, time, {heads, heads, 64}});
        EXPECT_TRUE(piece.batch >= 1 && piece.batch <= batch && piece.heads >= 1 && piece.heads <= heads);
        EXPECT_TRUE(piece.heads == heads || piece.batch == 1) << "heads of several sequences do not lie together";
        EXPECT_TRUE(piece.batch * piece.heads == 1 || piece.batch * piece.heads * time * time <= std::int64_t{256} << 20);
      }
}
