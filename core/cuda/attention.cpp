#include "core/cuda/attention.h"

#include <algorithm>
#include <cmath>

#include "core/blas.h"
#include "core/math.h"
#include "core/ops/common.h"

namespace muonp::core::cuda {

namespace {

// The heads of sequence b in a tensor [batch, time, parts·width], as a batch of [time, head_size] matrices: part 0, 1, 2
// of qkv are queries, keys and values.
MatrixBatch heads_of(const AttentionShape& s, const Tensor& t, std::int64_t b, std::int64_t part) {
  const std::int64_t cols = t.dim(2);
  const MatrixView all(t[b].raw(), s.time, cols, cols, t.dtype());
  return {all.block(0, part * s.width(), s.time, s.head_size), s.head_size};
}

MatrixBatch rows_of(const MatrixBatch& batch, std::int64_t first, std::int64_t rows) {
  return {batch.first.block(first, 0, rows, batch.first.cols), batch.batch_stride};
}

// One block of queries [first, first + rows) of all heads of a sequence; `keys` = first + rows.
struct Block {
  std::int64_t first, rows, keys;
};

// A row of scores, of head i / rows and query first + i % rows, becomes softmax(scale·scores) over the keys up to the
// query, 0 after it.
template <class T>
struct Softmax {
  const float* scores;
  T* weights;
  float* logsumexp;  // [heads, time]
  std::int64_t rows, first, time;
  float scale;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* s = scores + row.index * row.cols;
    T* w = weights + row.index * row.cols;
    const std::int64_t query = first + row.index % rows;
    const float by = scale;
    const auto valid = row.part(query + 1);
    const float highest = by * valid.max([](float score) { return score; }, s);
    const float sum = valid.sum([=](float score) { return math::exp(by * score - highest); }, s);
    const float inverse = 1.0f / sum;
    logsumexp[row.index / rows * time + query] = highest + math::log(sum);
    valid.over([=](float score, T& weight) { weight = T(math::exp(by * score - highest) * inverse); }, s, Written<T>{w});
    row.each([=](std::int64_t j) {
      if (j > query) w[j] = T(0.0f);
    });
  }
};

// With P the weights, O the output row, D = dO·O: dS = P∘(dO·Vᵀ − D)·scale. Writes P and dS.
template <class T>
struct SoftmaxGradient {
  const float *scores, *dweights;  // Q·Kᵀ and dO·Vᵀ
  T *weights, *dscores;
  const float* logsumexp;
  const T *out, *dout;  // of the sequence, [time, width]
  std::int64_t rows, first, time, head_size, width;
  float scale;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t head = row.index / rows, query = first + row.index % rows;
    const T* o = out + query * width + head * head_size;
    const T* d = dout + query * width + head * head_size;
    const float delta = row.part(head_size).sum([](T x, T y) { return float(x) * float(y); }, o, d);
    const float total = logsumexp[head * time + query], by = scale;
    const float *s = scores + row.index * row.cols, *dw = dweights + row.index * row.cols;
    T *w = weights + row.index * row.cols, *ds = dscores + row.index * row.cols;
    row.part(query + 1).over([=](float score, float dweight, T& weight, T& dscore) {
      const float value = math::exp(by * score - total);
      weight = T(value);
      dscore = T(value * (dweight - delta) * by);
    }, s, dw, Written<T>{w}, Written<T>{ds});
    row.each([=](std::int64_t j) {
      if (j > query) w[j] = ds[j] = T(0.0f);
    });
  }
};

// Gradients of keys or values, [heads, time, head_size] float32, into their part of dqkv.
template <class T>
struct StoreHeads {
  const float* from;
  T* to;  // of the sequence, from the part's first column
  std::int64_t time, head_size, stride;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float* f = from + row.index * head_size;
    T* t = to + row.index % time * stride + row.index / time * head_size;
    row.over([](float value, T& out) { out = T(value); }, f, Written<T>{t});
  }
};

// Room for the scores of one block of queries.
template <class T>
class Scores {
 public:
  Scores(Device& device, const AttentionShape& s, Dtype dtype)
      : tensor_(Tensor::empty(device, {s.heads * gpu_query_rows(s) * s.time}, dtype, Category::activations)) {}
  T* data() const { return tensor_.data<T>(); }
  MatrixBatch batch(const Block& b) const {
    return {{tensor_.raw(), b.rows, b.keys, b.keys, tensor_.dtype()}, b.rows * b.keys};
  }

 private:
  Tensor tensor_;
};

template <class F>
void for_each_block(const AttentionShape& s, const F& f) {
  const std::int64_t rows = gpu_query_rows(s);
  for (std::int64_t first = 0; first < s.time; first += rows) {
    const std::int64_t count = std::min(rows, s.time - first);
    f(Block{first, count, first + count});
  }
}

float scale_of(const AttentionShape& s) { return 1.0f / std::sqrt(static_cast<float>(s.head_size)); }

template <class T>
void forward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp) {
  Queue& queue = device.queue();
  const Scores<float> scores(device, s, Dtype::float32);
  const Scores<T> weights(device, s, qkv.dtype());
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const MatrixBatch q = heads_of(s, qkv, b, 0), k = heads_of(s, qkv, b, 1), v = heads_of(s, qkv, b, 2),
                      o = heads_of(s, out, b, 0);
    for_each_block(s, [&](const Block& block) {
      gemm_batched(queue, s.heads, Op::none, Op::transpose, 1, rows_of(q, block.first, block.rows),
                   rows_of(k, 0, block.keys), 0, scores.batch(block));
      core::for_each_row(queue, s.heads * block.rows, block.keys,
                         Softmax<T>{scores.data(), weights.data(), logsumexp[b].data<float>(), block.rows, block.first,
                                    s.time, scale_of(s)});
      gemm_batched(queue, s.heads, Op::none, Op::none, 1, weights.batch(block), rows_of(v, 0, block.keys), 0,
                   rows_of(o, block.first, block.rows));
    });
  }
}

template <class T>
void backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp,
              const Tensor& dout, const Tensor& dqkv) {
  Queue& queue = device.queue();
  const Scores<float> scores(device, s, Dtype::float32), dweights(device, s, Dtype::float32);
  const Scores<T> weights(device, s, qkv.dtype()), dscores(device, s, qkv.dtype());
  const Tensor sums = Tensor::empty(device, {2, s.heads, s.time, s.head_size}, Dtype::float32, Category::activations);
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const MatrixBatch q = heads_of(s, qkv, b, 0), k = heads_of(s, qkv, b, 1), v = heads_of(s, qkv, b, 2),
                      dq = heads_of(s, dqkv, b, 0), d = heads_of(s, dout, b, 0);
    const auto sum = [&](std::int64_t part) {
      return MatrixBatch{{sums[part].raw(), s.time, s.head_size, s.head_size}, s.time * s.head_size};
    };
    sums.zero(queue);
    for_each_block(s, [&](const Block& block) {
      const MatrixBatch queries = rows_of(q, block.first, block.rows), douts = rows_of(d, block.first, block.rows),
                        keys = rows_of(k, 0, block.keys);
      gemm_batched(queue, s.heads, Op::none, Op::transpose, 1, queries, keys, 0, scores.batch(block));
      gemm_batched(queue, s.heads, Op::none, Op::transpose, 1, douts, rows_of(v, 0, block.keys), 0,
                   dweights.batch(block));
      core::for_each_row(queue, s.heads * block.rows, block.keys,
                         SoftmaxGradient<T>{scores.data(), dweights.data(), weights.data(), dscores.data(),
                                            logsumexp[b].data<float>(), out[b].data<T>(), dout[b].data<T>(),
                                            block.rows, block.first, s.time, s.head_size, s.width(), scale_of(s)});
      gemm_batched(queue, s.heads, Op::none, Op::none, 1, dscores.batch(block), keys, 0,
                   rows_of(dq, block.first, block.rows));
      gemm_batched(queue, s.heads, Op::transpose, Op::none, 1, dscores.batch(block), queries, 1,
                   rows_of(sum(0), 0, block.keys));
      gemm_batched(queue, s.heads, Op::transpose, Op::none, 1, weights.batch(block), douts, 1,
                   rows_of(sum(1), 0, block.keys));
    });
    for (std::int64_t part = 0; part < 2; ++part)
      core::for_each_row(queue, s.heads * s.time, s.head_size,
                         StoreHeads<T>{sums[part].data<float>(), dqkv[b].data<T>() + (1 + part) * s.width(), s.time,
                                       s.head_size, 3 * s.width()});
  }
}

}  // namespace

void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp) {
  ops::with_float_type(qkv.dtype(), [&]<class T>(T) { forward<T>(device, shape, qkv, out, logsumexp); });
}

void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  ops::with_float_type(qkv.dtype(),
                       [&]<class T>(T) { backward<T>(device, shape, qkv, out, logsumexp, dout, dqkv); });
}

}  // namespace muonp::core::cuda
