// The CPU's causal attention: heads run at the same time, each head by blocks of queries, each block against the keys that
// one of its queries sees. Scratch memory is O(threads · time), counted as activations.
#pragma once

#include "core/device/attention.h"

namespace muonp::core::cpu {

// As in core/device/attention.h. A head's sums are taken by one thread; those of query heads that share a key head are added
// in the order of heads.
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima);
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);
void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out);

// For the calling thread's number of OpenMP threads.
std::int64_t attention_backward_scratch(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core::cpu
