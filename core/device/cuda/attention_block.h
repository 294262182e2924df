// What the GPU's kernels of attention in blocks of queries have in common. Heads are copied to lie one behind the other,
// the queries of a group, which share a key head, side by side: the rows of one product. Device code.
#pragma once

#include <cmath>

#include "core/base/math.h"
#include "core/base/storage.h"
#include "core/device/attention_shape.h"
#include "core/device/blas.h"
#include "core/device/for_each.h"

namespace muonp::core::cuda {

// Queries [first, first + rows) of all heads, and the keys [low, low + keys) that hold all that one of them may see.
struct Block {
  std::int64_t first, rows, low, keys;
};

inline Block make_block(const AttentionShape& s, std::int64_t first, std::int64_t rows) {
  const std::int64_t low = s.window_begin(first) / kKeyTile * kKeyTile;
  return {first, rows, low, first + rows - low};
}

// What a row of scores is of: rows are [batch·key heads, queries of the block, group].
struct ScoreRows {
  Block block;
  std::int64_t time, key_heads, group, window;  // key_heads: of one sequence
  const std::int32_t* begins;                   // [batch, time], or null

  ScoreRows(const AttentionShape& s, const Block& of, const std::int32_t* begins_)
      : block(of), time(s.time), key_heads(s.heads.keys), group(s.heads.group()), window(s.heads.window), begins(begins_) {}

  MUONP_HD std::int64_t query(std::int64_t row) const { return block.first + row / group % block.rows; }
  MUONP_HD std::int64_t sequence(std::int64_t row) const { return row / (group * block.rows * key_heads); }
  // Of all sequences' query heads.
  MUONP_HD std::int64_t head(std::int64_t row) const { return row / (group * block.rows) * group + row % group; }
  // The first key that the row sees, counted from block.low.
  MUONP_HD std::int64_t begin(std::int64_t row) const {
    const std::int64_t t = query(row), of_document = begins ? begins[sequence(row) * time + t] : 0;
    const std::int64_t of_window = window == 0 ? 0 : t - window + 1,
                       later = of_window > of_document ? of_window : of_document;
    return (later > 0 ? later : 0) - block.low;
  }
  // Behind the last one.
  MUONP_HD std::int64_t end(std::int64_t row) const { return query(row) + 1 - block.low; }
};

// A row of scores becomes softmax(scale·scores) over the keys that it sees, 0 elsewhere.
template <class T>
struct Softmax {
  const float* scores;
  T* weights;
  float *logsumexp, *maxima;  // [batch·query heads, time], or null
  ScoreRows rows;
  float scale;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t begin = rows.begin(row.index), end = rows.end(row.index);
    const float* s = scores + row.index * row.cols + begin;
    T* w = weights + row.index * row.cols;
    const float by = scale;
    const auto seen = row.part(end - begin);
    const float highest = by * seen.max([](float score) { return score; }, s);
    const float sum = seen.sum([=](float score) { return math::exp(by * score - highest); }, s);
    const float inverse = 1.0f / sum;
    const std::int64_t place = rows.head(row.index) * rows.time + rows.query(row.index);
    if (logsumexp) logsumexp[place] = highest + math::log(sum);
    if (maxima) maxima[place] = highest;
    seen.over([=](float score, T& weight) { weight = T(math::exp(by * score - highest) * inverse); }, s,
              Written<T>{w + begin});
    row.each([=](std::int64_t j) {
      if (j < begin || j >= end) w[j] = T(0.0f);
    });
  }
};

// Where head `first` + h of a tensor [batch, time, all, size] stands, for a row of [batch·key heads, time, group], whose h
// is key head · group + place in the group.
struct Place {
  std::int64_t time, key_heads, group, first, all, size;

  MUONP_HD std::int64_t operator()(std::int64_t row) const {
    const std::int64_t g = row % group, t = row / group % time, head = row / (group * time);
    const std::int64_t b = head / key_heads, h = first + head % key_heads * group + g;
    return ((b * time + t) * all + h) * size;
  }
};

template <class T>
struct ByHeads {
  const T* from;
  T* to;
  Place place;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T* f = from + place(row.index);
    T* t = to + row.index * row.cols;
    row.over([](T value, T& out) { out = value; }, f, Written<T>{t});
  }
};

// And back.
template <class F, class T>
struct ByTime {
  const F* from;
  T* to;
  Place place;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const F* f = from + row.index * row.cols;
    T* t = to + place(row.index);
    row.over([](F value, T& out) { out = T(float(value)); }, f, Written<T>{t});
  }
};

// Scratch memory [batch·key heads, time, group, size]: of the queries of a packed tensor, of its keys or of its values (with
// a group of 1), or of a result, which has queries only.
class Heads {
 public:
  static Heads queries(Device& device, const AttentionShape& s, Dtype dtype) {
    return {device, s, s.heads.group(), 0, s.heads.queries + 2 * s.heads.keys, dtype};
  }
  static Heads keys(Device& device, const AttentionShape& s, Dtype dtype) {
    return {device, s, 1, s.heads.queries, s.heads.queries + 2 * s.heads.keys, dtype};
  }
  static Heads values(Device& device, const AttentionShape& s, Dtype dtype) {
    return {device, s, 1, s.heads.queries + s.heads.keys, s.heads.queries + 2 * s.heads.keys, dtype};
  }
  static Heads result(Device& device, const AttentionShape& s, Dtype dtype) {
    return {device, s, s.heads.group(), 0, s.heads.queries, dtype};
  }

  // Positions [first, first + count) of the heads from key head `head` on.
  StridedBatch rows(std::int64_t first, std::int64_t count, std::int64_t head = 0) const {
    const std::int64_t all = place_.time * place_.group;
    const MatrixView view(tensor_[head].raw(), all, place_.size, place_.size, tensor_.dtype());
    return {view.block(first * place_.group, 0, count * place_.group, place_.size), all * place_.size};
  }
  const Tensor& tensor() const { return tensor_; }

  template <class T>
  void read(const Tensor& from) const {
    core::for_each_row(queue_, row_count(), place_.size, ByHeads<T>{from.data<T>(), tensor_.data<T>(), place_});
  }
  template <class F, class T>
  void write(const Tensor& to) const {
    core::for_each_row(queue_, row_count(), place_.size, ByTime<F, T>{tensor_.data<F>(), to.data<T>(), place_});
  }

 private:
  Heads(Device& device, const AttentionShape& s, std::int64_t group, std::int64_t first, std::int64_t all, Dtype dtype)
      : queue_(device.queue()),
        place_{s.time, s.heads.keys, group, first, all, s.heads.size},
        tensor_(Tensor::empty(device, {s.key_heads(), s.time * group, s.heads.size}, dtype, Category::activations)) {}
  std::int64_t row_count() const { return tensor_.dim(0) * tensor_.dim(1); }

  Queue& queue_;
  Place place_;
  Tensor tensor_;
};

// Room for the scores of one block of at most `rows` queries of all heads.
template <class T>
class Scores {
 public:
  Scores(Device& device, const AttentionShape& s, std::int64_t rows, Dtype dtype)
      : group_(s.heads.group()),
        tensor_(Tensor::empty(device, {s.query_heads() * rows * most_keys(s, rows)}, dtype, Category::activations)) {}
  T* data() const { return tensor_.data<T>(); }
  StridedBatch batch(const Block& b) const {
    const std::int64_t rows = b.rows * group_;
    return {{tensor_.raw(), rows, b.keys, b.keys, tensor_.dtype()}, rows * b.keys};
  }

 private:
  std::int64_t group_;
  Tensor tensor_;
};

inline float scale_of(const AttentionHeads& heads) { return 1.0f / std::sqrt(static_cast<float>(heads.size)); }

}  // namespace muonp::core::cuda
