// Bytes that a decoder's activations take in a recorded forward pass and its backward pass.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "core/base/count.h"
#include "core/base/index.h"

namespace muonp::models {

// Of one micro-batch. A sub-layer keeps its input, the normalised input and the norm's statistics, and more. `in_...`: the
// most that its backward pass holds at once beside what is kept. `into_...`: the gradient of its first projection's result.
struct DecoderBytes {
  core::Count stream;                          // one value of the residual stream
  core::Count kept_by_attention, kept_by_mlp;  // by a block for its backward pass
  core::Count in_attention, in_mlp;
  core::Count into_attention, into_mlp;
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

// The highest number of bytes at one time, by where the pass is.
class DecoderPeaks {
 public:
  // Error where a number, or what `bytes` counts, is an exbibyte or more.
  DecoderPeaks(const DecoderPass& pass, const std::function<DecoderBytes()>& bytes);

  std::int64_t at_embedding() const { return embedding_; }
  // Of a block the norm and the projection into attention, attention and the projection out of it, and the same of the MLP.
  static constexpr int kParts = 4;
  std::int64_t in_block(std::int64_t layer, int part) const { return first_block_[core::at(part)] + layer * below_; }
  std::int64_t at_head() const { return head_; }

 private:
  std::int64_t embedding_ = 0, head_ = 0;
  std::array<std::int64_t, kParts> first_block_{};
  std::int64_t below_ = 0;  // what a block leaves, for each of those above
};

}  // namespace muonp::models
