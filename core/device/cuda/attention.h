// The GPU's causal attention, as one operation for all sequences and heads that keeps no score in memory in the forward
// pass: cuDNN's (core/device/cuda/fused_attention.h) for the shapes that it is asked for, in bfloat16, else our own
// (core/device/cuda/flash_attention.h); describe_attention() says which.
#pragma once

#include <string>

#include "core/device/attention.h"
#include "core/device/cuda/fused_attention.h"

namespace muonp::core::cuda {

// As in core/device/attention.h, for heads of up to kLargestGpuHead.
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima);
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);
void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out);

// Why attention of this shape is not cuDNN's in this process, or an empty string.
std::string fusion_refusal(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core::cuda
