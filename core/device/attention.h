// Causal attention of all heads, by the device's own kernels. Query t of a sequence sees the keys from the later of
// `begins` and the window's begin up to t.
#pragma once

#include <span>
#include <string>

#include "core/device/attention_shape.h"
#include "core/device/tensor.h"

namespace muonp::core {

// qkv [batch, time, heads.width()] and out [batch, time, heads.query_width()] of one dtype, float32 or bfloat16; begins
// int32 [batch, time] where shape.documents, else no tensor: the first position of the document of each position, which
// never falls along a sequence; logsumexp [batch, query heads, time] float32: the natural logarithm of each row's sum of
// exp(q·k/√size) over the keys that it sees; maxima, where shape.maxima, else no tensor, likewise the largest q·k/√size.
void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima = {});

// dqkv is overwritten. Deterministic.
void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv);

// Why attention with such heads is not to be had on a device of this kind, and what to do; or an empty string. The
// operations above take no others.
std::string attention_refusal(const AttentionHeads& heads, DeviceKind device);

// Bytes of scratch memory of the backward pass; on the CPU for the calling thread's number of OpenMP threads, on a GPU as
// describe_attention() says in this process.
std::int64_t attention_backward_scratch(const AttentionShape& shape, Dtype dtype, DeviceKind device);

// Generation: qkv [batch, new, heads.width()] are the positions lengths[b] + [0, new) of sequence b, whose earlier keys and
// values are in the cache, two tensors [batch, capacity, heads.key_width()]. Writes the new ones there, and attention over
// all of them to out [batch, new, heads.query_width()]. What lies in the cache behind the new positions is not kept.
// All tensors of one dtype, float32 or bfloat16. InternalError where lengths[b] + new is more than the capacity.
void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out);

// How attention of this shape is computed on a GPU: "fused by cuDNN 9.19.0", or by a kernel of its own, and why.
std::string describe_attention(const AttentionShape& shape, Dtype dtype);

}  // namespace muonp::core
