#include <algorithm>

#include "core/attention_shape.h"
#include "core/ops/head_loss.h"
#include "models/gpt.h"

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

double gpt_recomputed_flops(const GptConfig& c, std::int64_t batch, std::int64_t time) {
  return c.recompute == "blocks" ? static_cast<double>(batch * time) * block_flops(c, time) : 0;
}

std::int64_t gpt_activation_bytes(const GptConfig& c, std::int64_t batch, std::int64_t time,
                                  core::Dtype dtype, core::DeviceKind device) {
  const std::int64_t element = core::size_of(dtype), rows = batch * time;
  const std::int64_t stream = rows * c.width * element, hidden = rows * c.hidden() * element;
  const std::int64_t statistics = 2 * rows * 4;
  const core::AttentionShape shape{batch, time, c.heads, c.head_size()};

  // What a block keeps for its backward pass. Attention: its input, the normalised input, q, k, v, the
  // result, a normaliser for each row. MLP: its input, the normalised input, before and after the activation.
  const std::int64_t kept_by_attention = 6 * stream + statistics + rows * c.heads * 4;
  const std::int64_t kept_by_mlp = 2 * stream + statistics + (gated(c) ? 3 : 2) * hidden;
  const std::int64_t kept_by_block = kept_by_attention + kept_by_mlp;
  // With recomputation: the inputs of all blocks, and the rest of the one that the backward pass is in.
  const bool recomputes = c.recompute == "blocks";
  const std::int64_t blocks = recomputes ? c.layers * stream : c.layers * kept_by_block;
  const std::int64_t in_block = recomputes ? blocks - stream + kept_by_block : blocks;

  // At the head: its input, the normalised input and that one's gradient, logits, and two numbers a row.
  const std::int64_t chunk = c.head_chunk_rows == 0 ? rows : std::min(rows, c.head_chunk_rows);
  const std::int64_t at_head = blocks + 3 * stream + statistics + chunk * core::ops::logits_pitch(c.vocabulary) * 4 + 2 * rows * 4;
  // In the last MLP: the gradients of the stream, of the sub-layer's result and of the hidden units.
  const std::int64_t at_mlp = in_block + std::max(2 * stream + hidden, gated(c) ? stream + 2 * hidden : 0);
  // In the last attention: the gradients of the stream, of the result and of q, k, v.
  const std::int64_t at_attention =
      in_block - kept_by_mlp + 5 * stream + core::attention_backward_scratch(shape, dtype, device);
  const std::int64_t angles = c.positions == "rotary" ? c.context * c.head_size() * 4 : 0;  // one table for all
  return angles + std::max({at_head, at_mlp, at_attention});
}

}  // namespace muonp::models
