// What the CPU's kernels of attention have in common: one block of queries of one head against the keys that it sees.
#pragma once

#include <cmath>

#include "core/base/math.h"
#include "core/base/storage.h"
#include "core/device/attention_shape.h"
#include "core/device/blas.h"
#include "core/device/for_each.h"

namespace muonp::core::cpu {

inline constexpr std::int64_t kQueryBlock = 64;
inline constexpr std::int64_t kKeyTile =
    64;  // keys begin at multiples of this many, so that products have few different sizes

inline std::int64_t round_down_to_tile(std::int64_t key) { return key / kKeyTile * kKeyTile; }

// Scratch memory for the scores of a block of queries with up to so many keys.
struct ScoreRoom {
  std::int64_t rows, keys;
  // Rows lie this far apart: off powers of two, which would map them to one cache set.
  std::int64_t stride() const { return (keys + 15) / 16 * 16 + 16; }
  std::int64_t floats() const { return rows * stride(); }
};

// The scores are read as the products' float32, the weights are what the next product reads: one array in
// float32, two in bfloat16.
template <class T>
constexpr std::int64_t kWeightFloats = std::is_same_v<T, float> ? 0 : 1;

template <class T>
T* weights_of(float* scores, std::int64_t size) {
  if constexpr (std::is_same_v<T, float>) {
    return scores;
  } else {
    return reinterpret_cast<T*>(scores + size);
  }
}

inline float scale_of(const AttentionHeads& heads) { return 1.0f / sqrtf(static_cast<float>(heads.size)); }

// Scratch memory of the queue's threads, counted as activations; and a thread's part of it.
inline Tensor scratch_for(Device& device, std::int64_t floats) {
  return Tensor::empty(device, {device.queue().threads(), floats}, Dtype::float32, Category::activations);
}
inline float* part_of(const Tensor& scratch, std::int64_t thread) {
  MUONP_ASSERT(thread < scratch.dim(0), "thread {} of a queue with {}", thread, scratch.dim(0));
  return scratch.data<float>() + thread * scratch.dim(1);
}

// Keys [begin, end) that a query sees.
struct Seen {
  std::int64_t begin, end;
};

// Of the scaled scores that a query sees.
struct RowFigures {
  float highest, logsumexp;
};

// scores[0, keys) → weights: softmax(scale·scores) over what is seen, zero elsewhere. The two may be one array.
template <class T>
RowFigures softmax_row(float* scores, T* weights, const Seen& seen, std::int64_t keys, float scale) {
  const Row row{0, seen.end - seen.begin};
  float* s = scores + seen.begin;
  T* w = weights + seen.begin;
  const float highest = scale * row.max([=](std::int64_t j) { return s[j]; });
  row.each([=](std::int64_t j) { s[j] = math::exp(scale * s[j] - highest); });
  const float sum = row.sum([=](std::int64_t j) { return s[j]; });
  const float inverse = 1.0f / sum;
  row.each([=](std::int64_t j) { w[j] = T(s[j] * inverse); });
  for (std::int64_t j = 0; j < seen.begin; ++j) weights[j] = T(0.0f);
  for (std::int64_t j = seen.end; j < keys; ++j) weights[j] = T(0.0f);
  return {highest, highest + math::log(sum)};
}

// out = softmax(scale·q·kᵀ)·v. Row i of q sees seen(i) of the rows of k and v. done(i, figures of the row).
template <class T, class SeenBy, class Done>
void attend(Queue& queue, const MatrixView& q, const MatrixView& k, const MatrixView& v, const MatrixView& out, float scale,
            const ScoreRoom& room, float* scratch, const SeenBy& seen, const Done& done) {
  const std::int64_t rows = q.rows, keys = k.rows, stride = room.stride();
  float* scores = scratch;
  T* weights = weights_of<T>(scratch, room.floats());
  gemm(queue, Op::none, Op::transpose, 1, q, k, 0, MatrixView(scores, rows, keys, stride));
  for (std::int64_t i = 0; i < rows; ++i)
    done(i, softmax_row(scores + i * stride, weights + i * stride, seen(i), keys, scale));
  gemm(queue, Op::none, Op::none, 1, MatrixView(weights, rows, keys, stride, dtype_of<T>), v, 0, out);
}

}  // namespace muonp::core::cpu
