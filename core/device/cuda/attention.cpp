#include "core/device/cuda/attention.h"

#include <algorithm>
#include <cmath>

#include "core/base/math.h"
#include "core/base/storage.h"
#include "core/device/blas.h"
#include "core/device/cuda/fused_attention.h"
#include "core/device/cuda/queue.h"
#include "core/device/for_each.h"

namespace muonp::core::cuda {

namespace {

// One block of queries [first, first + rows) of all heads; `keys` = first + rows.
struct Block {
  std::int64_t first, rows, keys;
};

// A row of scores, of head i / rows and query first + i % rows, becomes softmax(scale·scores) over the keys up to the
// query, 0 after it.
template <class T>
struct Softmax {
  const float* scores;
  T* weights;
  float* logsumexp;  // [batch·heads, time]
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
  const T *out, *dout;  // [batch, time, heads, head_size]
  std::int64_t rows, first, time, heads, head_size;
  float scale;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t head = row.index / rows, query = first + row.index % rows;
    const std::int64_t at = ((head / heads * time + query) * heads + head % heads) * head_size;
    const T *o = out + at, *d = dout + at;
    const float delta = row.part(head_size).sum([](T x, T y) { return float(x) * float(y); }, o, d);
    const float total = logsumexp[head * time + query], by = scale;
    const float *s = scores + row.index * row.cols, *dw = dweights + row.index * row.cols;
    T *w = weights + row.index * row.cols, *ds = dscores + row.index * row.cols;
    row.part(query + 1).over(
        [=](float score, float dweight, T& weight, T& dscore) {
          const float value = math::exp(by * score - total);
          weight = T(value);
          dscore = T(value * (dweight - delta) * by);
        },
        s, dw, Written<T>{w}, Written<T>{ds});
    row.each([=](std::int64_t j) {
      if (j > query) w[j] = ds[j] = T(0.0f);
    });
  }
};

// Where head h of sequence b stands at a time t, for a row index ((part·batch + b)·heads + h)·time + t: in a tensor [batch,
// time, parts, heads, head_size].
struct Place {
  std::int64_t batch, time, heads, head_size, parts;

  MUONP_HD std::int64_t operator()(std::int64_t index) const {
    const std::int64_t t = index % time, head = index / time, h = head % heads, sequence = head / heads;
    const std::int64_t b = sequence % batch, part = sequence / batch;
    return (((b * time + t) * parts + part) * heads + h) * head_size;
  }
};

// To [parts, batch·heads, time, head_size].
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

// Scratch memory [parts, batch·heads, time, head_size].
class Heads {
 public:
  Heads(Device& device, const AttentionShape& s, std::int64_t parts, Dtype dtype)
      : queue_(device.queue()),
        place_{s.batch, s.time, s.heads, s.head_size, parts},
        tensor_(Tensor::empty(device, {parts, s.batch * s.heads, s.time, s.head_size}, dtype, Category::activations)) {}

  // Rows [first, first + count) of all heads of a part.
  StridedBatch rows(std::int64_t part, std::int64_t first, std::int64_t count) const {
    const MatrixView head(tensor_[part].raw(), place_.time, place_.head_size, place_.head_size, tensor_.dtype());
    return {head.block(first, 0, count, place_.head_size), place_.time * place_.head_size};
  }
  Tensor part(std::int64_t i) const { return tensor_[i]; }

  template <class T>
  void read(const Tensor& from) const {
    core::for_each_row(queue_, row_count(), place_.head_size, ByHeads<T>{from.data<T>(), tensor_.data<T>(), place_});
  }
  template <class F, class T>
  void write(const Tensor& to) const {
    core::for_each_row(queue_, row_count(), place_.head_size, ByTime<F, T>{tensor_.data<F>(), to.data<T>(), place_});
  }

 private:
  std::int64_t row_count() const { return place_.parts * place_.batch * place_.heads * place_.time; }

  Queue& queue_;
  Place place_;
  Tensor tensor_;
};

// Room for the scores of one block of queries.
template <class T>
class Scores {
 public:
  Scores(Device& device, const AttentionShape& s, Dtype dtype)
      : tensor_(Tensor::empty(device, {s.batch * s.heads * gpu_query_rows(s) * s.time}, dtype, Category::activations)) {}
  T* data() const { return tensor_.data<T>(); }
  StridedBatch batch(const Block& b) const {
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
  const std::int64_t heads = s.batch * s.heads;
  const Scores<float> scores(device, s, Dtype::float32);
  const Scores<T> weights(device, s, qkv.dtype());
  const Heads in(device, s, 3, qkv.dtype()), result(device, s, 1, qkv.dtype());
  in.read<T>(qkv);
  for_each_block(s, [&](const Block& block) {
    gemm_batched(queue, heads, Op::none, Op::transpose, 1, in.rows(0, block.first, block.rows), in.rows(1, 0, block.keys), 0,
                 scores.batch(block));
    core::for_each_row(
        queue, heads * block.rows, block.keys,
        Softmax<T>{scores.data(), weights.data(), logsumexp.data<float>(), block.rows, block.first, s.time, scale_of(s)});
    gemm_batched(queue, heads, Op::none, Op::none, 1, weights.batch(block), in.rows(2, 0, block.keys), 0,
                 result.rows(0, block.first, block.rows));
  });
  result.write<T, T>(out);
}

template <class T>
void backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& logsumexp,
              const Tensor& dout, const Tensor& dqkv) {
  Queue& queue = device.queue();
  const std::int64_t heads = s.batch * s.heads;
  const Scores<float> scores(device, s, Dtype::float32), dweights(device, s, Dtype::float32);
  const Scores<T> weights(device, s, qkv.dtype()), dscores(device, s, qkv.dtype());
  const Heads in(device, s, 3, qkv.dtype()), dresult(device, s, 1, qkv.dtype()), sums(device, s, 3, Dtype::float32);
  in.read<T>(qkv);
  dresult.read<T>(dout);
  for (const std::int64_t part : {1, 2}) sums.part(part).zero(queue);
  for_each_block(s, [&](const Block& block) {
    const StridedBatch queries = in.rows(0, block.first, block.rows), douts = dresult.rows(0, block.first, block.rows),
                       keys = in.rows(1, 0, block.keys);
    gemm_batched(queue, heads, Op::none, Op::transpose, 1, queries, keys, 0, scores.batch(block));
    gemm_batched(queue, heads, Op::none, Op::transpose, 1, douts, in.rows(2, 0, block.keys), 0, dweights.batch(block));
    core::for_each_row(queue, heads * block.rows, block.keys,
                       SoftmaxGradient<T>{scores.data(), dweights.data(), weights.data(), dscores.data(),
                                          logsumexp.data<float>(), out.data<T>(), dout.data<T>(), block.rows, block.first,
                                          s.time, s.heads, s.head_size, scale_of(s)});
    gemm_batched(queue, heads, Op::none, Op::none, 1, dscores.batch(block), keys, 0, sums.rows(0, block.first, block.rows));
    gemm_batched(queue, heads, Op::transpose, Op::none, 1, dscores.batch(block), queries, 1, sums.rows(1, 0, block.keys));
    gemm_batched(queue, heads, Op::transpose, Op::none, 1, weights.batch(block), douts, 1, sums.rows(2, 0, block.keys));
  });
  sums.write<float, T>(dqkv);
}

bool is_fused(const AttentionShape& s, Dtype dtype) { return fusion_refusal(s, dtype).empty(); }

FusedAttention& fused_attention_of(Device& device) { return static_cast<CudaQueue&>(device.queue()).fused_attention(); }

}  // namespace

void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp) {
  if (is_fused(shape, qkv.dtype())) return fused_attention_of(device).forward(shape, qkv, out, logsumexp);
  with_float_type(qkv.dtype(), [&]<class T>(T) { forward<T>(device, shape, qkv, out, logsumexp); });
}

void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  if (is_fused(shape, qkv.dtype())) return fused_attention_of(device).backward(shape, qkv, out, logsumexp, dout, dqkv);
  with_float_type(qkv.dtype(), [&]<class T>(T) { backward<T>(device, shape, qkv, out, logsumexp, dout, dqkv); });
}

// Lengths in whole tiles of cuDNN's only: a plan costs the host a second, which a text that grows by one token at a time
// would pay for each.
std::string fusion_refusal(const AttentionShape& s, Dtype dtype) {
  constexpr std::int64_t kSizes = 8, kLargest = 128, kTimes = 64;
  if (dtype != Dtype::bfloat16) return fmt::format("bfloat16 is fused, not {}", name_of(dtype));
  if (s.head_size % kSizes != 0 || s.head_size > kLargest)
    return fmt::format("heads of multiples of {} up to {} are fused, not of {}", kSizes, kLargest, s.head_size);
  if (s.time % kTimes != 0) return fmt::format("sequences of multiples of {} are fused, not of {}", kTimes, s.time);
  return fusion_library_refusal();
}

}  // namespace muonp::core::cuda
