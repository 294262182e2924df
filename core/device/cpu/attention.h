// The CPU's causal attention: heads run at the same time, each head by blocks of queries. Scratch memory is
// O(threads · time), counted as activations.
#pragma once

#include "core/device/attention_shape.h"
#include "core/device/tensor.h"

namespace muonp::core::cpu {

// qkv [batch, time, 3·width] and out [batch, time, width] of one dtype; logsumexp [batch, heads, time]
// float32: the natural logarithm of each row's sum of exp(q·k/√d).
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp);

// dqkv is overwritten. Deterministic: a head's sums are taken by one thread.
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);

std::int64_t attention_backward_scratch(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core::cpu
