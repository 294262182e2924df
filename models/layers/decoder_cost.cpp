#include "models/layers/decoder_cost.h"

#include <algorithm>

#include "core/autograd/ops/head_loss.h"
#include "core/base/error.h"

namespace muonp::models {

using core::Count;

Count norm_bytes(std::int64_t batch, std::int64_t time) { return 2 * Count(batch) * time * 4; }

DecoderPeaks::DecoderPeaks(const DecoderPass& p, const std::function<DecoderBytes()>& bytes) {
  constexpr std::int64_t kExbibyte = std::int64_t{1} << 60;  // room for what is added to it
  try {
    const DecoderBytes b = bytes();
    const Count rows = Count(p.batch) * p.time, kept_by_block = b.kept_by_attention + b.kept_by_mlp;
    // With recomputation a block leaves its input, and has the rest while the backward pass is in it.
    const Count below = p.recompute ? b.stream : kept_by_block;
    // Its input, the normalised input and that one's gradient, logits, and two numbers a row.
    const Count chunk = p.head_chunk_rows == 0 ? rows : std::min<Count>(rows, p.head_chunk_rows);
    const Count head = b.angles + p.layers * below + 3 * b.stream + norm_bytes(p.batch, p.time) +
                       chunk * core::ops::logits_pitch(p.vocabulary) * p.logit + 2 * rows * 4;
    // At a first projection: what its norm keeps, the gradients of both and of the stream.
    const Count at_first = 4 * b.stream + norm_bytes(p.batch, p.time);
    const Count parts[kParts] = {at_first + b.into_attention, b.kept_by_attention + b.in_attention,
                                 b.kept_by_attention + at_first + b.into_mlp, kept_by_block + b.in_mlp};
    const Count blocks = b.angles + p.adapters + *std::ranges::max_element(parts) + p.layers * below;
    if (std::max(head, blocks).value() < kExbibyte) {
      below_ = below.value();
      embedding_ = (b.angles + 2 * b.stream).value();  // its gradient, and what becomes of it by dropout
      for (int i = 0; i < kParts; ++i) first_block_[core::at(i)] = (b.angles + p.adapters + parts[i]).value();
      head_ = head.value();
      return;
    }
  } catch (const std::overflow_error&) {  // more than that
  }
  core::fail(
      "the activations of {} sequences of {} tokens in one pass take more than an exbibyte; a smaller data.micro_batch or "
      "data.sequence takes less",
      p.batch, p.time);
}

}  // namespace muonp::models
