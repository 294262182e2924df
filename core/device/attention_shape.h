// The shape of attention, and how much of it a GPU takes at once.
#pragma once

#include <algorithm>
#include <cstdint>

namespace muonp::core {

struct AttentionShape {
  std::int64_t batch, time, heads, head_size;
  std::int64_t width() const { return heads * head_size; }
};

// Queries of all heads that a GPU takes at once where attention is not fused: their scores are enough to fill it, and
// few beside the activations of the layers.
inline std::int64_t gpu_query_rows(const AttentionShape& s) {
  constexpr std::int64_t kScores = 16 << 20, kLeastRows = 64;
  const std::int64_t rows = kScores / (s.batch * s.heads * s.time) / kLeastRows * kLeastRows;
  return std::min(s.time, std::max(kLeastRows, rows));
}

// Sequences, or heads of one sequence, that a fused backward pass is given at once: it keeps the gradients of their scores.
struct FusedPiece {
  std::int64_t batch, heads;
};
inline FusedPiece fused_piece(const AttentionShape& s) {
  constexpr std::int64_t kScores = 256 << 20;
  const auto in_equal_parts = [](std::int64_t count, std::int64_t most) {
    const std::int64_t parts = (count + most - 1) / most;
    return (count + parts - 1) / parts;
  };
  const std::int64_t heads = std::max<std::int64_t>(1, kScores / (s.time * s.time));
  if (heads < s.heads) return {1, in_equal_parts(s.heads, heads)};
  return {in_equal_parts(s.batch, heads / s.heads), s.heads};
}

}  // namespace muonp::core
