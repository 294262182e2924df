#include "core/device/attention.h"

#include "core/device/cpu/attention.h"
#include "core/device/cuda/attention.h"

namespace muonp::core {

void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp) {
  if (device.kind() == DeviceKind::cuda) return cuda::attention_forward(device, shape, qkv, out, logsumexp);
  cpu::attention_forward(device, shape, qkv, out, logsumexp);
}

void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  if (device.kind() == DeviceKind::cuda) return cuda::attention_backward(device, shape, qkv, out, logsumexp, dout, dqkv);
  cpu::attention_backward(device, shape, qkv, out, logsumexp, dout, dqkv);
}

std::string describe_attention(const AttentionShape& s, Dtype dtype) {
  const std::string refusal = cuda::fusion_refusal(s, dtype);
  if (refusal.empty()) return "fused by " + cuda::fusion_library();
  return "in blocks of queries: " + refusal;
}

namespace {

// Gradients of the scores of a piece, of whole tiles of keys, and dO·O.
std::int64_t fused_scratch(const AttentionShape& s) {
  constexpr std::int64_t kTile = 128;
  const FusedPiece piece = fused_piece(s);
  return piece.batch * piece.heads * s.time * ((s.time + kTile - 1) / kTile * kTile * 2 + 4);
}

// Scores and the gradient of the weights in float32, the weights and the gradient of the scores; q, k, v and the gradient
// of the result by heads, and the sums of dq, dk and dv.
std::int64_t block_scratch(const AttentionShape& s, Dtype dtype) {
  const std::int64_t element = size_of(dtype);
  return s.batch * s.heads * s.time * (gpu_query_rows(s) * 2 * (4 + element) + s.head_size * (4 * element + 3 * 4));
}

}  // namespace

std::int64_t attention_backward_scratch(const AttentionShape& s, Dtype dtype, DeviceKind device) {
  if (device == DeviceKind::cpu) return cpu::attention_backward_scratch(s, dtype);
  return cuda::fusion_refusal(s, dtype).empty() ? fused_scratch(s) : block_scratch(s, dtype);
}

}  // namespace muonp::core
