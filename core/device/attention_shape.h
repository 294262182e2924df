// The shape of attention, and how much of it a GPU takes, also at once.
#pragma once

#include <algorithm>
#include <cstdint>

namespace muonp::core {

// Heads of a packed tensor [..., width()]: a row is the queries of all heads, then the keys, then the values. Query head h
// reads key head h / group() (Ainslie et al. 2023, "GQA").
struct AttentionHeads {
  std::int64_t queries, keys;  // keys: of values too; divides queries
  std::int64_t size;           // elements of one head
  std::int64_t window = 0;     // a query sees its own and the window - 1 positions before it; 0: all before it

  std::int64_t group() const { return queries / keys; }
  std::int64_t query_width() const { return queries * size; }
  std::int64_t key_width() const { return keys * size; }
  std::int64_t width() const { return query_width() + 2 * key_width(); }
};

struct AttentionShape {
  std::int64_t batch, time;
  AttentionHeads heads;
  bool documents = false;  // a sequence may hold several, which do not see each other
  bool maxima = false;     // the largest score of each query is wanted

  std::int64_t query_heads() const { return batch * heads.queries; }
  std::int64_t key_heads() const { return batch * heads.keys; }
  // The first key that the window of a query reaches.
  std::int64_t window_begin(std::int64_t query) const {
    return heads.window == 0 ? 0 : std::max<std::int64_t>(0, query - heads.window + 1);
  }
};

inline constexpr std::int64_t kLargestGpuHead = 128;  // elements of a head that attention on a GPU takes

// Sequences, or heads of one sequence, that cuDNN's backward pass is given at once: it keeps the gradients of their scores.
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
  if (heads < s.heads.queries) return {1, in_equal_parts(s.heads.queries, heads)};
  return {in_equal_parts(s.batch, heads / s.heads.queries), s.heads.queries};
}

}  // namespace muonp::core
