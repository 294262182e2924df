#include "core/device/cuda/fused_attention.h"

#include <algorithm>

namespace muonp::core::cuda {

namespace {

// Element `column` of the first row of sequence `b` of a tensor [batch, time, columns].
void* at(const Tensor& t, std::int64_t b, std::int64_t column) {
  return static_cast<char*>(t[b].raw()) + column * size_of(t.dtype());
}

// Of a packed tensor, sequences from b and heads from column `q` on.
HeadPointers heads_at(const Tensor& packed, std::int64_t b, std::int64_t q, std::int64_t width) {
  return {at(packed, b, q), at(packed, b, q + width), at(packed, b, q + 2 * width)};
}

}  // namespace

void FusedAttention::forward(const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp) {
  const std::int64_t width = s.heads.query_width();
  run_forward({s.batch, s.heads.queries, s.time, s.heads.size, width}, heads_at(qkv, 0, 0, width), out.raw(),
              logsumexp.raw());
}

void FusedAttention::backward(const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp,
                              const Tensor& dout, const Tensor& dqkv) {
  const FusedPiece piece = fused_piece(s);
  const std::int64_t width = s.heads.query_width();
  for (std::int64_t b = 0; b < s.batch; b += piece.batch)
    for (std::int64_t h = 0; h < s.heads.queries; h += piece.heads) {
      const AttentionPart part{std::min(piece.batch, s.batch - b), std::min(piece.heads, s.heads.queries - h), s.time,
                               s.heads.size, width};
      const std::int64_t q = h * s.heads.size;
      run_backward(part, heads_at(qkv, b, q, width), at(out, b, q), logsumexp[b][h].raw(), at(dout, b, q),
                   heads_at(dqkv, b, q, width));
    }
}

}  // namespace muonp::core::cuda
