// The CPU's causal attention: heads run at the same time, each head by blocks of queries. Scratch memory is
// O(threads · time), counted as activations.
#pragma once

#include "core/device/attention_shape.h"
#include "core/device/tensor.h"

namespace muonp::core::cpu {

// As core::attention_forward and core::attention_backward (core/device/attention.h). A head's sums are taken by one thread.
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp);
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);

// For the calling thread's number of OpenMP threads.
std::int64_t attention_backward_scratch(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core::cpu
