#include "core/device/attention.h"

#include "core/device/cpu/attention.h"
#include "core/device/cuda/attention.h"

namespace muonp::core {

namespace {

void check(const AttentionShape& s, const Tensor& qkv, const Tensor& begins) {
  const AttentionHeads& h = s.heads;
  MUONP_ASSERT(h.keys > 0 && h.queries > 0 && h.queries % h.keys == 0 && h.window >= 0,
               "attention of {} query heads and {} key heads, window {}", h.queries, h.keys, h.window);
  MUONP_ASSERT(qkv.shape() == (Shape{s.batch, s.time, h.width()}), "attention with {} and {} heads of {} over {}", h.queries,
               h.keys, h.size, to_string(qkv.shape()));
  MUONP_ASSERT(static_cast<bool>(begins) == s.documents &&
                   (!begins || (begins.dtype() == Dtype::int32 && begins.shape() == Shape{s.batch, s.time})),
               "begins of documents {} for {}", begins ? to_string(begins.shape()) : "none", to_string(qkv.shape()));
}

}  // namespace

void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima) {
  check(shape, qkv, begins);
  MUONP_ASSERT(static_cast<bool>(maxima) == shape.maxima && (!maxima || maxima.shape() == logsumexp.shape()),
               "maxima of rows {} for {}", maxima ? to_string(maxima.shape()) : "none", to_string(logsumexp.shape()));
  if (device.kind() == DeviceKind::cuda) return cuda::attention_forward(device, shape, qkv, begins, out, logsumexp, maxima);
  cpu::attention_forward(device, shape, qkv, begins, out, logsumexp, maxima);
}

void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  check(shape, qkv, begins);
  if (device.kind() == DeviceKind::cuda)
    return cuda::attention_backward(device, shape, qkv, begins, out, logsumexp, dout, dqkv);
  cpu::attention_backward(device, shape, qkv, begins, out, logsumexp, dout, dqkv);
}

void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out) {
  MUONP_ASSERT(qkv.rank() == 3 && keys.rank() == 3, "{} with a cache {}", to_string(qkv.shape()), to_string(keys.shape()));
  const std::int64_t batch = qkv.dim(0), added = qkv.dim(1), capacity = keys.dim(1);
  check({batch, added, heads}, qkv, {});
  MUONP_ASSERT(keys.shape() == (Shape{batch, capacity, heads.key_width()}) && values.shape() == keys.shape() &&
                   out.shape() == (Shape{batch, added, heads.query_width()}) && std::ssize(lengths) == batch,
               "{} with a cache of {} and {}, {} lengths, into {}", to_string(qkv.shape()), to_string(keys.shape()),
               to_string(values.shape()), lengths.size(), to_string(out.shape()));
  for (const std::int64_t length : lengths)
    MUONP_ASSERT(length >= 0 && length + added <= capacity, "{} new positions behind {} in a cache of {}", added, length,
                 capacity);
  if (device.kind() == DeviceKind::cuda) return cuda::attention_with_cache(device, heads, qkv, keys, values, lengths, out);
  cpu::attention_with_cache(device, heads, qkv, keys, values, lengths, out);
}

std::string attention_refusal(const AttentionHeads& heads, DeviceKind device) {
  if (device == DeviceKind::cpu || heads.size <= kLargestGpuHead) return "";
  return fmt::format(
      "attention on a GPU takes heads of up to {0}, not of {1}; choose model.heads so that width / heads is at most {0}, or "
      "device: cpu (a command that has no such setting takes the CPU where CUDA_VISIBLE_DEVICES is empty)",
      kLargestGpuHead, heads.size);
}

std::string describe_attention(const AttentionShape& s, Dtype dtype) {
  const std::string not_cudnn = cuda::fusion_refusal(s, dtype);
  return not_cudnn.empty() ? "fused by " + cuda::fusion_library() : "fused by a kernel of its own: " + not_cudnn;
}

namespace {

// Gradients of the scores of a piece, of whole tiles of keys, and dO·O; where query heads share keys, these and the values
// for each of them, and their gradients.
std::int64_t library_scratch(const AttentionShape& s) {
  constexpr std::int64_t kTile = 128;
  const FusedPiece piece = fused_piece(s);
  const std::int64_t scores = piece.batch * piece.heads * s.time * ((s.time + kTile - 1) / kTile * kTile * 2 + 4);
  return scores + (s.heads.group() == 1 ? 0 : 4 * s.query_heads() * s.time * s.heads.size * size_of(Dtype::bfloat16));
}

}  // namespace

std::int64_t attention_backward_scratch(const AttentionShape& s, Dtype dtype, DeviceKind device) {
  if (device == DeviceKind::cpu) return cpu::attention_backward_scratch(s, dtype);
  if (cuda::fusion_refusal(s, dtype).empty()) return library_scratch(s);
  return s.query_heads() * s.time * size_of(Dtype::float32);  // dO·O of each query
}

}  // namespace muonp::core
