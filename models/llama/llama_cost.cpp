#include <algorithm>

#include "core/device/attention.h"
#include "models/layers/decoder_cost.h"
#include "models/llama/llama.h"

namespace muonp::models {

namespace {

core::AttentionHeads heads_of(const LlamaConfig& c) {
  return {.queries = c.heads, .keys = c.kv_heads, .size = c.head_size, .window = c.window};
}

// Of a token's forward pass through all blocks.
double block_flops(const LlamaConfig& c, std::int64_t time) {
  const core::AttentionHeads heads = heads_of(c);
  const std::int64_t weights = c.width * (heads.width() + heads.query_width() + 3 * c.hidden);
  return static_cast<double>(c.layers) * static_cast<double>(2 * weights + 4 * heads.query_width() * time);
}

// Of a sequence's time² pairs of a query and a key, those that are not seen.
double unseen_pairs(const LlamaConfig& c, std::int64_t time) {
  const auto t = static_cast<double>(time);
  const auto window = static_cast<double>(c.window == 0 ? time : std::min(time, c.window));
  return t * t - (t * window - window * (window - 1) / 2);
}

}  // namespace

double llama_step_flops(const LlamaConfig& c, std::int64_t batch, std::int64_t time) {
  const double head = 2 * static_cast<double>(c.vocabulary * c.width);
  return 3 * static_cast<double>(batch * time) * (block_flops(c, time) + head);
}

double llama_skipped_flops(const LlamaConfig& c, std::int64_t batch, std::int64_t time) {
  const double of_a_pair = static_cast<double>(c.layers) * 4 * static_cast<double>(heads_of(c).query_width());
  return 3 * static_cast<double>(batch) * of_a_pair * unseen_pairs(c, time);
}

double llama_recomputed_flops(const LlamaConfig& c, std::int64_t batch, std::int64_t time) {
  return c.recompute == "blocks" ? static_cast<double>(batch * time) * block_flops(c, time) : 0;
}

namespace {

using core::Count;

// Of one table, and of the one that sequences beyond the original context have beside it.
Count angle_bytes(const LlamaConfig& c, std::int64_t time) {
  const std::int64_t original = c.rope.original_context;
  if (c.rope.kind != "dynamic" || original == 0 || original >= c.context) return Count(c.context) * c.head_size * 4;
  return Count(time <= original ? original : time) * c.head_size * 4;
}

DecoderBytes bytes_of(const LlamaConfig& c, const PassShape& pass, bool maxima) {
  const auto [batch, time, dtype, device, documents] = pass;
  const Count element = core::size_of(dtype), rows = Count(batch) * time, statistics = norm_bytes(batch, time);
  const core::AttentionHeads heads = heads_of(c);
  const Count stream = rows * c.width * element, hidden = rows * c.hidden * element;
  const Count qkv = rows * heads.width() * element, queries = rows * heads.query_width() * element;
  const Count head_norms = c.qk_norm ? qkv + rows * (heads.queries + 2 * heads.keys) * 4 : Count(0);
  return {
      .stream = stream,
      // Its input, the normalised input, q, k, v, the result, a normaliser for each row; norms of q and k keep their input.
      .kept_by_attention = 2 * stream + statistics + qkv + queries + rows * heads.queries * 4 + head_norms,
      // Its input, the normalised input, gate and up, their product.
      .kept_by_mlp = 2 * stream + statistics + 3 * hidden,
      // The gradients of the stream, of the result and of q, k, v.
      .in_attention =
          stream + queries + qkv + core::attention_backward_scratch({batch, time, heads, documents, maxima}, dtype, device),
      // The gradients of the stream, which is that of the sub-layer's result, and of gate and up.
      .in_mlp = stream + 2 * hidden,
      .into_attention = qkv,
      .into_mlp = 2 * hidden,
      .angles = angle_bytes(c, time),
  };
}

}  // namespace

DecoderPeaks llama_peaks(const LlamaConfig& c, const PassShape& shape, std::int64_t adapters, bool maxima) {
  return {{shape.batch, shape.time, c.layers, c.vocabulary, c.head_chunk_rows, c.recompute == "blocks",
           core::size_of(core::parse_dtype(c.logits_dtype)), adapters},
          [&] { return bytes_of(c, shape, maxima); }};
}

}  // namespace muonp::models
