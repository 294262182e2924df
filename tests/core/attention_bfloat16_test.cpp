// Attention in bfloat16 against double precision, value and gradients, on the shapes of each of its kernels: on a GPU
// lengths that 64 divides are fused where cuDNN is, others go by blocks of queries. The tolerance of an element is what the
// roundings of the stored values can do to it, to first order, twice.
#include "core/autograd/ops/attention.h"
#include "core/device/attention.h"
#include "op_check.h"

using namespace muonp::core;
using namespace muonp::core::testing;
using namespace muonp::test;

namespace {

constexpr double kRound = 0x1p-9;  // of bfloat16, to nearest

struct Sizes {
  std::size_t batch, time, heads, head_size;
  std::size_t width() const { return heads * head_size; }
  AttentionHeads attention() const { return {std::int64_t(heads), std::int64_t(heads), std::int64_t(head_size)}; }
  Shape shape(std::size_t parts) const { return {std::int64_t(batch), std::int64_t(time), std::int64_t(parts * width())}; }
};

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
  Head(const Sizes& s, std::size_t b, std::size_t h, const Numbers& qkv, const Numbers& dout, Results& r)
      : s_(s), b_(b), h_(h), qkv_(qkv), dout_(dout), r_(r) {}

  void row(std::size_t t) {
    Numbers w(t + 1);
    double total = 0;
    for (std::size_t j = 0; j <= t; ++j) total += w[j] = std::exp(dot(t, 0, j, 1));
    for (double& x : w) x /= total;
    double delta = 0, delta_error = 0;  // of Σ dO·O
    for (std::size_t i = 0; i < s_.head_size; ++i) {
      double sum = 0, size = 0;
      for (std::size_t j = 0; j <= t; ++j) sum += w[j] * qkv_[at(j, 2, i)], size += w[j] * std::abs(qkv_[at(j, 2, i)]);
      r_.out.add(out(t, i), sum, kRound * size);
      delta += dout_[out(t, i)] * sum;
      delta_error += std::abs(dout_[out(t, i)]) * kRound * (size + std::abs(sum));
    }
    for (std::size_t j = 0; j <= t; ++j) gradients(t, j, w[j], delta, delta_error);
  }

 private:
  void gradients(std::size_t t, std::size_t j, double w, double delta, double delta_error) {
    const double scale = 1 / std::sqrt(double(s_.head_size));
    double dw = 0;
    for (std::size_t i = 0; i < s_.head_size; ++i) {
      const double d = dout_[out(t, i)];
      dw += d * qkv_[at(j, 2, i)];
      r_.dqkv.add(at(j, 2, i), w * d, kRound * w * std::abs(d));
    }
    const double ds = w * (dw - delta) * scale, error = kRound * std::abs(ds) + w * scale * delta_error;
    for (std::size_t i = 0; i < s_.head_size; ++i) {
      const double q = qkv_[at(t, 0, i)], k = qkv_[at(j, 1, i)];
      r_.dqkv.add(at(t, 0, i), ds * k, error * std::abs(k));
      r_.dqkv.add(at(j, 1, i), ds * q, error * std::abs(q));
    }
  }
  double dot(std::size_t t, std::size_t part, std::size_t j, std::size_t other) const {
    double sum = 0;
    for (std::size_t i = 0; i < s_.head_size; ++i) sum += qkv_[at(t, part, i)] * qkv_[at(j, other, i)];
    return sum / std::sqrt(double(s_.head_size));
  }
  std::size_t at(std::size_t t, std::size_t part, std::size_t i) const {
    return (b_ * s_.time + t) * 3 * s_.width() + part * s_.width() + h_ * s_.head_size + i;
  }
  std::size_t out(std::size_t t, std::size_t i) const { return (b_ * s_.time + t) * s_.width() + h_ * s_.head_size + i; }

  const Sizes& s_;
  std::size_t b_, h_;
  const Numbers &qkv_, &dout_;
  Results& r_;
};

Results reference(const Sizes& s, const Numbers& qkv, const Numbers& dout) {
  Results r{Bounded(dout.size()), Bounded(qkv.size())};
  for (std::size_t b = 0; b < s.batch; ++b)
    for (std::size_t h = 0; h < s.heads; ++h)
      for (std::size_t t = 0; t < s.time; ++t) Head(s, b, h, qkv, dout, r).row(t);
  r.out.round();
  r.dqkv.round();
  return r;
}

Numbers stored_numbers(const Shape& shape, std::uint64_t seed) {
  Numbers x(std::size_t(element_count(shape)));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = double(float(bfloat16(float(normal(seed, 0, i)))));
  return x;
}

struct Computed {
  Numbers out, dqkv;
};

Computed compute(Device& device, const Sizes& s, const Numbers& qkv, const Numbers& dout) {
  Tape tape(device, true);
  const Variable x = tape.variable(to_tensor(device, s.shape(3), Dtype::bfloat16, qkv));
  const Variable y = ops::attention(tape, x, s.attention());
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
  for (const Sizes s : {Sizes{2, 64, 3, 16}, Sizes{1, 192, 1, 64}, Sizes{3, 70, 2, 8}, Sizes{1, 64, 1, 20},
                        Sizes{2, 1, 2, 8}, Sizes{1, 128, 1, 128}}) {
    SCOPED_TRACE(
        fmt::format("{} sequences of {}, {} heads of {}: {}", s.batch, s.time, s.heads, s.head_size,
                    describe_attention({std::int64_t(s.batch), std::int64_t(s.time), s.attention()}, Dtype::bfloat16)));
    const Numbers qkv = stored_numbers(s.shape(3), 1), dout = stored_numbers(s.shape(1), 2);
    const Results expected = reference(s, qkv, dout);
    const Computed got = compute(*device, s, qkv, dout);
    expect_within("value", got.out, expected.out);
    expect_within("gradient", got.dqkv, expected.dqkv);
  }
}

// Fused, at a size where the gradients that cuDNN sums with atomics differ between runs.
TEST(Attention, Bfloat16RepeatsInEveryBit) {
  auto device = make_test_device(2, Bfloat16::emulated);
  const bool fused = on_gpu() && describe_attention({16, 1024, {12, 12, 64}}, Dtype::bfloat16).starts_with("fused");
  for (const Sizes s : {fused ? Sizes{16, 1024, 12, 64} : Sizes{1, 64, 2, 8}, Sizes{2, 70, 1, 8}}) {
    const Numbers qkv = stored_numbers(s.shape(3), 3), dout = stored_numbers(s.shape(1), 4);
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
