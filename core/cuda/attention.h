// The GPU's causal attention: blocks of queries against all keys up to them, as batched products over the heads of a
// sequence with row kernels between. Scores of one block of queries exist at a time, in scratch memory of
// O(heads · block · time); the backward pass computes them again from the kept logarithms of the sums.
#pragma once

#include "core/attention_shape.h"
#include "core/tensor.h"

namespace muonp::core::cuda {

// As cpu::attention_forward and cpu::attention_backward (core/cpu/attention.h).
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp);
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);

}  // namespace muonp::core::cuda
