#include "core/device/cuda/attention.h"

#include "core/device/cuda/flash_attention.h"
#include "core/device/cuda/queue.h"

namespace muonp::core::cuda {

namespace {

bool is_cudnns(const AttentionShape& s, Dtype dtype) { return fusion_refusal(s, dtype).empty(); }

FusedAttention& cudnns_attention(Device& device) { return static_cast<CudaQueue&>(device.queue()).fused_attention(); }

}  // namespace

void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima) {
  if (is_cudnns(shape, qkv.dtype())) return cudnns_attention(device).forward(device, shape, qkv, out, logsumexp);
  flash_forward(device, shape, qkv, begins, out, logsumexp, maxima);
}

void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  if (is_cudnns(shape, qkv.dtype()))
    return cudnns_attention(device).backward(device, shape, qkv, out, logsumexp, dout, dqkv);
  flash_backward(device, shape, qkv, begins, out, logsumexp, dout, dqkv);
}

// Lengths in whole tiles of cuDNN's only: a plan costs the host a second, which a text that grows by one token at a time
// would pay for each.
std::string fusion_refusal(const AttentionShape& s, Dtype dtype) {
  constexpr std::int64_t kTimes = 64, kSizes = 8;
  if (dtype != Dtype::bfloat16) return fmt::format("cuDNN is asked for bfloat16, not for {}", name_of(dtype));
  if (s.heads.size % kSizes != 0)
    return fmt::format("cuDNN is asked for heads of multiples of {}, not of {}", kSizes, s.heads.size);
  if (s.time % kTimes != 0) return fmt::format("cuDNN is asked for sequences of multiples of {}, not of {}", kTimes, s.time);
  if (s.documents) return "cuDNN is asked for whole sequences, not for documents within them";
  if (s.maxima) return "cuDNN keeps no largest logit, which model.qk_clip needs";
  if (s.heads.window != 0 && s.heads.window < s.time)
    return fmt::format("cuDNN is asked for all positions before, not for a window of {}", s.heads.window);
  return fusion_library_refusal();
}

}  // namespace muonp::core::cuda
