#include <algorithm>

#include "core/base/count.h"
#include "core/device/attention.h"
#include "models/gpt/gpt.h"
#include "models/layers/decoder_cost.h"

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

DecoderBytes bytes_of(const GptConfig& c, const PassShape& pass, bool maxima) {
  const auto [batch, time, dtype, device, documents] = pass;
  const Count element = core::size_of(dtype), rows = Count(batch) * time;
  const Count stream = rows * c.width * element, hidden = rows * c.hidden() * element, statistics = norm_bytes(batch, time);
  const core::AttentionShape shape{batch, time, {c.heads, c.heads, c.head_size()}, documents, maxima};
  return {
      .stream = stream,
      // Its input, the normalised input, q, k, v, the result, a normaliser for each row.
      .kept_by_attention = 6 * stream + statistics + rows * c.heads * 4,
      // Its input, the normalised input, before and after the activation.
      .kept_by_mlp = 2 * stream + statistics + (gated(c) ? 3 : 2) * hidden,
      // The gradients of the stream, of the result and of q, k, v.
      .in_attention = 5 * stream + core::attention_backward_scratch(shape, dtype, device),
      // The gradients of the stream, which is that of the sub-layer's result but for dropout, and of the hidden units.
      .in_mlp = std::max((c.dropout > 0 ? 2 : 1) * stream + hidden, gated(c) ? stream + 2 * hidden : Count(0)),
      .into_attention = 3 * stream,
      .into_mlp = (gated(c) ? 2 : 1) * hidden,
      .angles = c.positions == "rotary" ? Count(c.context) * c.head_size() * 4 : Count(0),
  };
}

}  // namespace

DecoderPeaks gpt_peaks(const GptConfig& c, const PassShape& shape, std::int64_t adapters, bool maxima) {
  return {{shape.batch, shape.time, c.layers, c.vocabulary, c.head_chunk_rows, c.recompute == "blocks",
           core::size_of(core::parse_dtype(c.logits_dtype)), adapters},
          [&] { return bytes_of(c, shape, maxima); }};
}

}  // namespace muonp::models
