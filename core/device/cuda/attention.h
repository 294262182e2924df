// The GPU's causal attention: in bfloat16 one operation, cuDNN's (core/device/cuda/fused_attention.h) for the shapes that it
// is asked for, else our own (core/device/cuda/flash_attention.h); describe_attention() says which.
// Otherwise blocks of queries of all sequences and heads against all keys in their windows up to them, as batched products
// with row kernels between, on copies that lie head by head: the number of launches does not depend on the batch. Scores of
// one block of queries exist at a time; the backward pass computes them again from the kept logarithms of the sums. Keys of
// other documents are multiplied and masked: where documents begin only the device knows. With a cache, one sequence is
// taken after the other, since their lengths differ.
#pragma once

#include <string>

#include "core/device/attention.h"
#include "core/device/cuda/fused_attention.h"

namespace muonp::core::cuda {

// As in core/device/attention.h.
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima);
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);
void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out);

// Why attention of this shape is not cuDNN's in this process, or an empty string.
std::string fusion_refusal(const AttentionShape& shape, Dtype dtype);
// Why it is not our own fused one's, or an empty string.
std::string flash_refusal(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core::cuda
