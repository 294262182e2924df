// Causal attention of all heads, by the device's own kernels.
#pragma once

#include <string>

#include "core/device/attention_shape.h"
#include "core/device/tensor.h"

namespace muonp::core {

// qkv [batch, time, 3·width] and out [batch, time, width] of one dtype, float32 or bfloat16; logsumexp [batch, heads, time]
// float32: the natural logarithm of each row's sum of exp(q·k/√d).
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp);

// dqkv is overwritten. Deterministic.
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);

// Bytes of scratch memory of the backward pass; on the CPU for the calling thread's number of OpenMP threads, on a GPU as
// describe_attention() says in this process.
std::int64_t attention_backward_scratch(const AttentionShape& shape, Dtype dtype, DeviceKind device);

// How attention of this shape is computed on a GPU: "fused by cuDNN 9.19.0", or in blocks of queries, and why.
std::string describe_attention(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core
