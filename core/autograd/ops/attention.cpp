#include "core/autograd/ops/attention.h"

#include "core/autograd/ops/common.h"
#include "core/device/attention.h"
#include "core/device/for_each.h"

namespace muonp::core::ops {

namespace {

// A row is a head; its columns are the positions of a sequence.
struct RaiseToMaxima {
  const float* maxima;  // [batch, heads, time]
  float* highest;       // [heads]
  std::int64_t batch, heads;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float most = highest[row.index];
    for (std::int64_t b = 0; b < batch; ++b) {
      const float of_sequence = row.max([](float score) { return score; }, maxima + (b * heads + row.index) * row.cols);
      most = of_sequence > most ? of_sequence : most;
    }
    highest[row.index] = most;
  }
};

void forward(Tape& tape, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& y,
             const Tensor& normaliser, const Tensor& highest) {
  if (!highest) return attention_forward(tape.device(), s, qkv, begins, y, normaliser);
  MUONP_ASSERT(highest.shape() == Shape{s.heads.queries} && highest.dtype() == Dtype::float32,
               "the largest logits of {} heads in {}", s.heads.queries, to_string(highest.shape()));
  const Tensor maxima = tape.activation(normaliser.shape(), Dtype::float32);
  attention_forward(tape.device(), s, qkv, begins, y, normaliser, maxima);
  for_each_row(tape.queue(), s.heads.queries, s.time,
               RaiseToMaxima{maxima.data<float>(), highest.data<float>(), s.batch, s.heads.queries});
}

}  // namespace

Variable attention(Tape& tape, const Variable& qkv, const AttentionHeads& heads, const Tensor& begins,
                   const Tensor& highest) {
  const Tensor in = qkv->value;
  MUONP_ASSERT(in.rank() == 3, "attention over {}", to_string(in.shape()));
  const AttentionShape shape{in.dim(0), in.dim(1), heads, static_cast<bool>(begins), static_cast<bool>(highest)};
  const Tensor y = tape.activation({shape.batch, shape.time, heads.query_width()}, in.dtype());
  const Tensor normaliser = tape.activation({shape.batch, heads.queries, shape.time}, Dtype::float32);
  forward(tape, shape, in, begins, y, normaliser, highest);
  Variable out = tape.result(y, wanted(qkv));
  if (!wanted(out)) return out;
  tape.record({}, [&tape, shape, in, begins, y, normaliser, dx = qkv->gradient, dout = out->gradient] {
    const Tensor dy = take_gradient(dout);
    if (!dy) return;
    const Tensor dqkv = tape.activation(in.shape(), in.dtype());
    attention_backward(tape.device(), shape, in, begins, y, normaliser, dy, dqkv);
    add_gradient(tape, *dx, dqkv);
  });
  return out;
}

}  // namespace muonp::core::ops
