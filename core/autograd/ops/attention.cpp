#include "core/autograd/ops/attention.h"

#include "core/autograd/ops/common.h"
#include "core/device/attention.h"

namespace muonp::core::ops {

Variable attention(Tape& tape, const Variable& qkv, const AttentionHeads& heads, const Tensor& begins) {
  const Tensor in = qkv->value;
  MUONP_ASSERT(in.rank() == 3, "attention over {}", to_string(in.shape()));
  const AttentionShape shape{in.dim(0), in.dim(1), heads, static_cast<bool>(begins)};
  const Tensor y = tape.activation({shape.batch, shape.time, heads.query_width()}, in.dtype());
  const Tensor normaliser = tape.activation({shape.batch, heads.queries, shape.time}, Dtype::float32);
  attention_forward(tape.device(), shape, in, begins, y, normaliser);
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
