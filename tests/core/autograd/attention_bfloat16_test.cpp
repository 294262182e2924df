// Attention in bfloat16 against double precision, value and gradients, on the shapes of each of its kernels: on a GPU
// lengths that 64 divides are cuDNN's where it is, all others our own kernel's but for heads that 8 does not divide or above
// 128, which go by blocks of queries. The tolerance of an element is what the
// roundings of the stored values can do to it, to first order, twice.
#include "core/autograd/ops/attention.h"
#include "core/device/attention.h"
#include "tests/core/autograd/attention_reference.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

constexpr double kRound = 0x1p-9;  // of bfloat16, to nearest

using Sizes = AttentionCase;

Shape out_shape(const Sizes& s) { return {s.batch, s.time, s.heads.query_width()}; }

// A value and a bound on what roundings change of it.
struct Bounded {
  Numbers value, error;
  explicit Bounded(std::size_t count) : value(count), error(count) {}
  void add(std::size_t i, double v, double e) { value[i] += v, error[i] += e; }
  void round() {  // when it is stored
    for (std::size_t i = 0; i < value.size(); ++i) error[i] += kRound * std::abs(value[i]);
  }
};

struct Results {
  Bounded out, dqkv;
};

// The rows of one head. The weights and the gradients of the scores are rounded before they are multiplied.
class Head {
 public:
  Head(const Sizes& s, std::int64_t b, std::int64_t h, const Numbers& qkv, const Numbers& dout, Results& r)
      : s_(s), b_(b), h_(h), qkv_(qkv), dout_(dout), r_(r) {}

  void row(std::int64_t t) {
    const std::int64_t first = s_.first_seen(b_, t);
    Numbers w(at(t + 1));
    double total = 0;
    for (std::int64_t j = first; j <= t; ++j) total += w[at(j)] = std::exp(score(t, j));
    for (double& x : w) x /= total;
    double delta = 0, delta_error = 0;  // of Σ dO·O
    for (std::size_t i = 0; i < size(); ++i) {
      double sum = 0, largest = 0;
      for (std::int64_t j = first; j <= t; ++j) {
        sum += w[at(j)] * qkv_[place(j, 2) + i];
        largest += w[at(j)] * std::abs(qkv_[place(j, 2) + i]);
      }
      const std::size_t o = s_.out_place(b_, t, h_) + i;
      r_.out.add(o, sum, kRound * largest);
      delta += dout_[o] * sum;
      delta_error += std::abs(dout_[o]) * kRound * (largest + std::abs(sum));
    }
    for (std::int64_t j = first; j <= t; ++j) gradients(t, j, w[at(j)], delta, delta_error);
  }

 private:
  void gradients(std::int64_t t, std::int64_t j, double w, double delta, double delta_error) {
    const double scale = 1 / std::sqrt(double(size()));
    double dw = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      const double d = dout_[s_.out_place(b_, t, h_) + i];
      dw += d * qkv_[place(j, 2) + i];
      r_.dqkv.add(place(j, 2) + i, w * d, kRound * w * std::abs(d));
    }
    const double ds = w * (dw - delta) * scale, error = kRound * std::abs(ds) + w * scale * delta_error;
    for (std::size_t i = 0; i < size(); ++i) {
      const double q = qkv_[place(t, 0) + i], k = qkv_[place(j, 1) + i];
      r_.dqkv.add(place(t, 0) + i, ds * k, error * std::abs(k));
      r_.dqkv.add(place(j, 1) + i, ds * q, error * std::abs(q));
    }
  }
  double score(std::int64_t t, std::int64_t j) const {
    double sum = 0;
    for (std::size_t i = 0; i < size(); ++i) sum += qkv_[place(t, 0) + i] * qkv_[place(j, 1) + i];
    return sum / std::sqrt(double(size()));
  }
  std::size_t place(std::int64_t t, int part) const { return s_.place(b_, t, part, h_); }
  std::size_t size() const { return at(s_.heads.size); }

  const Sizes& s_;
  std::int64_t b_, h_;
  const Numbers &qkv_, &dout_;
  Results& r_;
};

Results reference(const Sizes& s, const Numbers& qkv, const Numbers& dout) {
  Results r{Bounded(dout.size()), Bounded(qkv.size())};
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads.queries; ++h)
      for (std::int64_t t = 0; t < s.time; ++t) Head(s, b, h, qkv, dout, r).row(t);
  r.out.round();
  r.dqkv.round();
  return r;
}

struct Computed {
  Numbers out, dqkv;
};

Computed compute(Device& device, const Sizes& s, const Numbers& qkv, const Numbers& dout) {
  Tape tape(device, true);
  const Variable x = tape.variable(to_tensor(device, s.shape(), Dtype::bfloat16, qkv));
  const Variable y = ops::attention(tape, x, s.heads, s.begins_on(device));
  PlainParameters none(device, {}, Dtype::bfloat16, 1);
  tape.backward(weighted_sum(tape, y, dout), 1, {}, none);
  return {to_numbers(y->value), to_numbers(x->gradient->tensor)};
}

void expect_within(const char* what, const Numbers& got, const Bounded& expected) {
  double largest = 0;
  for (const double v : expected.value) largest = std::max(largest, std::abs(v));
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected.value[i], 2 * expected.error[i] + 64 * 0x1p-24 * largest) << what << ", element " << i;
}

}  // namespace

TEST(Attention, Bfloat16IsWithinItsRoundings) {
  auto device = make_test_device(2, Bfloat16::emulated);
  for (const Sizes& s : std::vector<Sizes>{{2, 64, {3, 3, 16}},
                                           {1, 192, {1, 1, 64}},
                                           {3, 70, {2, 2, 8}},
                                           {1, 64, {1, 1, 20}},
                                           {2, 1, {2, 2, 8}},
                                           {1, 128, {1, 1, 128}},
                                           {2, 128, {6, 2, 16}},
                                           {1, 192, {2, 2, 16, 64}},
                                           {1, 150, {4, 1, 8, 33}},
                                           {2, 128, {2, 1, 16}, begins_of(128, {{60, 1, 20}, {128}})},
                                           {1, 200, {700, 350, 1, 70}},  // four blocks of queries of a GPU
                                           {1, 300, {2, 1, 64}},         // several tiles of the GPU's own kernel
                                           {1, 261, {4, 2, 24, 130}},
                                           {2, 129, {2, 2, 128}, begins_of(129, {{1, 40}, {127, 1}})},
                                           {1, 200, {3, 1, 80, 100}, begins_of(200, {{30, 150}})},
                                           {1, 96, {2, 1, 32, 1}},
                                           {1, 70, {1, 1, 136}}}) {
    SCOPED_TRACE(
        fmt::format("{}: {}", s.text(), describe_attention({s.batch, s.time, s.heads, !s.begins.empty()}, Dtype::bfloat16)));
    const Numbers qkv = random_numbers(s.shape(), 1), dout = random_numbers(out_shape(s), 2);
    const Results expected = reference(s, qkv, dout);
    const Computed got = compute(*device, s, qkv, dout);
    expect_within("value", got.out, expected.out);
    expect_within("gradient", got.dqkv, expected.dqkv);
  }
}

// Fused, at a size where the gradients that cuDNN sums with atomics differ between runs.
TEST(Attention, Bfloat16RepeatsInEveryBit) {
  auto device = make_test_device(2, Bfloat16::emulated);
  const bool fused = on_gpu() && describe_attention({16, 1024, {12, 12, 64}}, Dtype::bfloat16).starts_with("fused by cuDNN");
  for (const Sizes& s : {fused ? Sizes{16, 1024, {12, 12, 64}} : Sizes{1, 64, {2, 2, 8}}, Sizes{2, 70, {1, 1, 8}},
                         Sizes{2, 70, {4, 2, 8, 9}}}) {
    const Numbers qkv = random_numbers(s.shape(), 3), dout = random_numbers(out_shape(s), 4);
    const Computed first = compute(*device, s, qkv, dout);
    for (int i = 0; i < 3; ++i) {
      const Computed again = compute(*device, s, qkv, dout);
      EXPECT_EQ(again.out, first.out);
      EXPECT_EQ(again.dqkv, first.dqkv);
    }
  }
}

// A GPU takes the sequences of a fused backward pass in pieces; a piece is never empty nor beyond what there is.
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
