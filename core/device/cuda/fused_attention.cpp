#include "core/device/cuda/fused_attention.h"

#include <algorithm>
#include <optional>

#include "core/base/storage.h"
#include "core/device/for_each.h"

namespace muonp::core::cuda {

namespace {

// Element `column` of the first row of sequence `b` of a tensor [batch, time, columns].
void* at(const Tensor& t, std::int64_t b, std::int64_t column) {
  return static_cast<char*>(t[b].raw()) + column * size_of(t.dtype());
}

// Keys and values, or their gradients, with a head for each query head.
struct KeysAndValues {
  Tensor k, v;  // [batch, time, queries of all heads]

  KeysAndValues(Device& device, const AttentionShape& s) : k(empty(device, s)), v(empty(device, s)) {}

 private:
  static Tensor empty(Device& device, const AttentionShape& s) {
    return Tensor::empty(device, {s.batch, s.time, s.heads.query_width()}, Dtype::bfloat16, Category::activations);
  }
};

// A row of the packed tensor, in numbers that a kernel can read.
struct PackedRow {
  std::int64_t queries, keys, group, width, first_key, first_value;

  explicit PackedRow(const AttentionHeads& h)
      : queries(h.queries),
        keys(h.keys),
        group(h.group()),
        width(h.width()),
        first_key(h.query_width()),
        first_value(h.query_width() + h.key_width()) {}
};

// Rows are [batch, time, query heads].
struct RepeatHeads {
  const bfloat16* qkv;
  bfloat16 *k, *v;
  PackedRow packed;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t position = row.index / packed.queries, head = row.index % packed.queries / packed.group;
    const bfloat16* from = qkv + position * packed.width + head * row.cols;
    const std::int64_t to = row.index * row.cols;
    row.over(
        [](bfloat16 key, bfloat16 value, bfloat16& k_out, bfloat16& v_out) {
          k_out = key;
          v_out = value;
        },
        from + packed.first_key, from + packed.first_value, Written<bfloat16>{k + to}, Written<bfloat16>{v + to});
  }
};

// And back: rows are [batch, time, key heads], each the sum over the heads of its queries.
struct SumHeads {
  const bfloat16 *k, *v;
  bfloat16* qkv;
  PackedRow packed;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t position = row.index / packed.keys, head = row.index % packed.keys, group = packed.group,
                       size = row.cols, from = (position * packed.queries + head * group) * size;
    bfloat16* to = qkv + position * packed.width + head * size;
    bfloat16 *key = to + packed.first_key, *value = to + packed.first_value;
    const bfloat16 *keys = k + from, *values = v + from;
    row.each([=](std::int64_t c) {
      float of_key = 0, of_value = 0;
      for (std::int64_t g = 0; g < group; ++g) {
        of_key += float(keys[g * size + c]);
        of_value += float(values[g * size + c]);
      }
      key[c] = bfloat16(of_key);
      value[c] = bfloat16(of_value);
    });
  }
};

KeysAndValues repeated(Device& device, const AttentionShape& s, const Tensor& qkv) {
  const KeysAndValues all(device, s);
  core::for_each_row(device.queue(), s.batch * s.time * s.heads.queries, s.heads.size,
                     RepeatHeads{qkv.data<bfloat16>(), all.k.data<bfloat16>(), all.v.data<bfloat16>(), PackedRow(s.heads)});
  return all;
}

// The first elements of sequences from b and heads from column `q` of the queries on: keys and values in the packed tensor,
// or beside it.
HeadPointers heads_at(const Tensor& packed, const KeysAndValues* beside, std::int64_t b, std::int64_t q,
                      std::int64_t width) {
  if (beside) return {at(packed, b, q), at(beside->k, b, q), at(beside->v, b, q)};
  return {at(packed, b, q), at(packed, b, q + width), at(packed, b, q + 2 * width)};
}

AttentionPart part_of(const AttentionShape& s, std::int64_t batch, std::int64_t heads) {
  const std::int64_t packed = s.heads.width(), width = s.heads.query_width();
  return {batch, heads, s.time, s.heads.size, packed, s.heads.group() == 1 ? packed : width, width};
}

}  // namespace

void FusedAttention::forward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out,
                             const Tensor& logsumexp) {
  std::optional<KeysAndValues> shared;
  if (s.heads.group() != 1) shared = repeated(device, s, qkv);
  run_forward(part_of(s, s.batch, s.heads.queries), heads_at(qkv, shared ? &*shared : nullptr, 0, 0, s.heads.query_width()),
              out.raw(), logsumexp.raw());
}

void FusedAttention::backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out,
                              const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  std::optional<KeysAndValues> shared, gradients;
  if (s.heads.group() != 1) {
    shared = repeated(device, s, qkv);
    gradients.emplace(device, s);
  }
  const FusedPiece piece = fused_piece(s);
  const std::int64_t width = s.heads.query_width();
  for (std::int64_t b = 0; b < s.batch; b += piece.batch)
    for (std::int64_t h = 0; h < s.heads.queries; h += piece.heads) {
      const std::int64_t q = h * s.heads.size;
      run_backward(part_of(s, std::min(piece.batch, s.batch - b), std::min(piece.heads, s.heads.queries - h)),
                   heads_at(qkv, shared ? &*shared : nullptr, b, q, width), at(out, b, q), logsumexp[b][h].raw(),
                   at(dout, b, q), heads_at(dqkv, gradients ? &*gradients : nullptr, b, q, width));
    }
  if (gradients)
    core::for_each_row(
        device.queue(), s.batch * s.time * s.heads.keys, s.heads.size,
        SumHeads{gradients->k.data<bfloat16>(), gradients->v.data<bfloat16>(), dqkv.data<bfloat16>(), PackedRow(s.heads)});
}

}  // namespace muonp::core::cuda
