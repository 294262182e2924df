#include "models/layers/decoder_cost.h"

#include <algorithm>

#include "core/autograd/ops/head_loss.h"
#include "core/base/error.h"

namespace muonp::models {

namespace {

using core::Count;

Count peak(const DecoderPass& p, const DecoderBytes& b) {
  const Count rows = Count(p.batch) * p.time, kept_by_block = b.kept_by_attention + b.kept_by_mlp;
  // With recomputation: the inputs of all blocks, and the rest of the one that the backward pass is in.
  const Count blocks = p.recompute ? p.layers * b.stream : p.layers * kept_by_block;
  const Count in_block = p.recompute ? blocks - b.stream + kept_by_block : blocks;
  // At the head: its input, the normalised input and that one's gradient, logits, and two numbers a row.
  const Count chunk = p.head_chunk_rows == 0 ? rows : std::min<Count>(rows, p.head_chunk_rows);
  const Count at_head = blocks + 3 * b.stream + norm_bytes(p.batch, p.time) +
                        chunk * core::ops::logits_pitch(p.vocabulary) * p.logit + 2 * rows * 4;
  const Count in_sub_layer = std::max(in_block + b.in_mlp, in_block - b.kept_by_mlp + b.in_attention);
  return b.angles + std::max(at_head, in_sub_layer + p.adapters);
}

}  // namespace

Count norm_bytes(std::int64_t batch, std::int64_t time) { return 2 * Count(batch) * time * 4; }

std::int64_t peak_bytes(const DecoderPass& pass, const std::function<DecoderBytes()>& bytes) {
  constexpr std::int64_t kExbibyte = std::int64_t{1} << 60;  // room for what is added to it
  try {
    const std::int64_t count = peak(pass, bytes()).value();
    if (count < kExbibyte) return count;
  } catch (const std::overflow_error&) {  // more than that
  }
  core::fail(
      "the activations of {} sequences of {} tokens in one pass take more than an exbibyte; a smaller data.micro_batch or "
      "data.sequence takes less",
      pass.batch, pass.time);
}

}  // namespace muonp::models
