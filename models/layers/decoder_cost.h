// Bytes that a decoder's activations take in a recorded forward pass and its backward pass.
#pragma once

#include <cstdint>
#include <functional>

#include "core/base/count.h"

namespace muonp::models {

// Of one micro-batch. `in_...`: the most that the backward pass of a sub-layer holds at once beside what is kept.
struct DecoderBytes {
  core::Count stream;                          // one value of the residual stream
  core::Count kept_by_attention, kept_by_mlp;  // by a block for its backward pass
  core::Count in_attention, in_mlp;
  core::Count angles;  // of rotary positions, in one table for all blocks
};
struct DecoderPass {
  std::int64_t batch, time, layers, vocabulary, head_chunk_rows;
  bool recompute;
  std::int64_t logit;         // bytes of one
  std::int64_t adapters = 0;  // bytes that one takes for itself in the backward pass of a sub-layer
};
// The two float32 statistics of each row that a norm keeps.
core::Count norm_bytes(std::int64_t batch, std::int64_t time);
// The highest number of bytes at one time, over all blocks and the head. Error where it, or what `bytes` counts, is an
// exbibyte or more.
std::int64_t peak_bytes(const DecoderPass& pass, const std::function<DecoderBytes()>& bytes);

}  // namespace muonp::models
