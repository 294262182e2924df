#include <algorithm>

#include "core/autograd/ops/head_loss.h"
#include "core/base/count.h"
#include "core/base/error.h"
#include "core/device/attention.h"
#include "models/gpt/gpt.h"

namespace muonp::models {

namespace {

bool gated(const GptConfig& c) { return c.activation == "swiglu"; }

// Of a token's forward pass through all blocks.
double block_flops(const GptConfig& c, std::int64_t time) {
  const std::int64_t mlp = (gated(c) ? 3 : 2) * c.hidden() * c.width;
  return static_cast<double>(c.layers) * static_cast<double>(2 * (4 * c.width * c.width + mlp) + 4 * c.width * time);
}

}  // namespace

double gpt_step_flops(const GptConfig& c, std::int64_t batch, std::int64_t time) {
  const double head = 2 * static_cast<double>(c.vocabulary * c.width);
  return 3 * static_cast<double>(batch * time) * (block_flops(c, time) + head);
}

double gpt_skipped_flops(const GptConfig& c, std::int64_t batch, std::int64_t time) {
  const double of_a_token = static_cast<double>(c.layers) * static_cast<double>(2 * c.width * (time - 1));
  return 3 * static_cast<double>(batch * time) * of_a_token;
}

double gpt_recomputed_flops(const GptConfig& c, std::int64_t batch, std::int64_t time) {
  return c.recompute == "blocks" ? static_cast<double>(batch * time) * block_flops(c, time) : 0;
}

namespace {

using core::Count;

Count activation_bytes(const GptConfig& c, std::int64_t batch, std::int64_t time, core::Dtype dtype,
                       core::DeviceKind device) {
  const Count element = core::size_of(dtype), rows = Count(batch) * time;
  const Count stream = rows * c.width * element, hidden = rows * c.hidden() * element;
  const Count statistics = 2 * rows * 4;
  const core::AttentionShape shape{batch, time, {c.heads, c.heads, c.head_size()}};

  // What a block keeps for its backward pass. Attention: its input, the normalised input, q, k, v, the
  // result, a normaliser for each row. MLP: its input, the normalised input, before and after the activation.
  const Count kept_by_attention = 6 * stream + statistics + rows * c.heads * 4;
  const Count kept_by_mlp = 2 * stream + statistics + (gated(c) ? 3 : 2) * hidden;
  const Count kept_by_block = kept_by_attention + kept_by_mlp;
  // With recomputation: the inputs of all blocks, and the rest of the one that the backward pass is in.
  const bool recomputes = c.recompute == "blocks";
  const Count blocks = recomputes ? c.layers * stream : c.layers * kept_by_block;
  const Count in_block = recomputes ? blocks - stream + kept_by_block : blocks;

  // At the head: its input, the normalised input and that one's gradient, logits, and two numbers a row.
  const Count chunk = c.head_chunk_rows == 0 ? rows : std::min<Count>(rows, c.head_chunk_rows);
  const Count at_head = blocks + 3 * stream + statistics + chunk * core::ops::logits_pitch(c.vocabulary) * 4 + 2 * rows * 4;
  // In the last MLP: the gradients of the stream, of the sub-layer's result and of the hidden units.
  const Count at_mlp = in_block + std::max(2 * stream + hidden, gated(c) ? stream + 2 * hidden : Count(0));
  // In the last attention: the gradients of the stream, of the result and of q, k, v.
  const Count at_attention = in_block - kept_by_mlp + 5 * stream + core::attention_backward_scratch(shape, dtype, device);
  const Count angles = c.positions == "rotary" ? Count(c.context) * c.head_size() * 4 : Count(0);  // one table for all
  return angles + std::max({at_head, at_mlp, at_attention});
}

}  // namespace

std::int64_t gpt_activation_bytes(const GptConfig& c, std::int64_t batch, std::int64_t time, core::Dtype dtype,
                                  core::DeviceKind device) {
  constexpr std::int64_t kExbibyte = std::int64_t{1} << 60;  // room for what is added to it
  try {
    const std::int64_t bytes = activation_bytes(c, batch, time, dtype, device).value();
    if (bytes < kExbibyte) return bytes;
  } catch (const std::overflow_error&) {  // more than that
  }
  core::fail(
      "the activations of {} sequences of {} tokens in one pass take more than an exbibyte; a smaller data.micro_batch or "
      "data.sequence takes less",
      batch, time);
}

}  // namespace muonp::models
