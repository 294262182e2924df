#include "core/device/cpu/attention.h"

#include <omp.h>

#include "core/base/math.h"
#include "core/base/storage.h"
#include "core/device/blas.h"
#include "core/device/cpu/tasks.h"
#include "core/device/for_each.h"

namespace muonp::core::cpu {

namespace {

constexpr std::int64_t kQueryBlock = 64;

// Rows of the score matrices lie this far apart: off powers of two, which would map them to one cache set.
std::int64_t score_stride(const AttentionShape& s) { return (s.time + 15) / 16 * 16 + 16; }
std::int64_t score_size(const AttentionShape& s) { return kQueryBlock * score_stride(s); }

// A thread's part of a scratch tensor [threads, floats].
float* part_of(const Tensor& scratch, std::int64_t thread) {
  MUONP_ASSERT(thread < scratch.dim(0), "thread {} of a queue with {}", thread, scratch.dim(0));
  return scratch.data<float>() + thread * scratch.dim(1);
}

// Queries, keys and values of one head within a packed tensor.
struct Head {
  MatrixView q, k, v;
  Head(const AttentionShape& s, const Tensor& qkv, std::int64_t b, std::int64_t h) {
    const MatrixView all(qkv);
    q = all.block(b * s.time, h * s.head_size, s.time, s.head_size);
    k = all.block(b * s.time, s.width() + h * s.head_size, s.time, s.head_size);
    v = all.block(b * s.time, 2 * s.width() + h * s.head_size, s.time, s.head_size);
  }
};

// One head within a tensor [batch, time, width].
MatrixView head_of(const AttentionShape& s, const Tensor& t, std::int64_t b, std::int64_t h) {
  return MatrixView(t).block(b * s.time, h * s.head_size, s.time, s.head_size);
}

float scale_of(const AttentionShape& s) { return 1.0f / sqrtf(static_cast<float>(s.head_size)); }

// scores[0 .. keys) → weights: softmax(scale·scores) over the first `valid`, zero behind. Returns the
// log-sum-exp. The two may be one array.
template <class T>
float softmax_row(float* scores, T* weights, std::int64_t valid, std::int64_t keys, float scale) {
  const Row row{0, valid};
  const float highest = scale * row.max([=](std::int64_t j) { return scores[j]; });
  row.each([=](std::int64_t j) { scores[j] = math::exp(scale * scores[j] - highest); });
  const float sum = row.sum([=](std::int64_t j) { return scores[j]; });
  const float inverse = 1.0f / sum;
  row.each([=](std::int64_t j) { weights[j] = T(scores[j] * inverse); });
  for (std::int64_t j = valid; j < keys; ++j) weights[j] = T(0.0f);
  return highest + math::log(sum);
}

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

template <class T>
void forward_block(Queue& queue, const AttentionShape& s, const Head& head, const MatrixView& out, std::int64_t first,
                   float* scratch, float* logsumexp) {
  const std::int64_t rows = std::min(kQueryBlock, s.time - first), keys = first + rows, stride = score_stride(s);
  float* scores = scratch;
  T* weights = weights_of<T>(scratch, score_size(s));
  gemm(queue, Op::none, Op::transpose, 1, head.q.block(first, 0, rows, s.head_size), head.k.block(0, 0, keys, s.head_size),
       0, MatrixView(scores, rows, keys, stride));
  for (std::int64_t i = 0; i < rows; ++i)
    logsumexp[first + i] = softmax_row(scores + i * stride, weights + i * stride, first + i + 1, keys, scale_of(s));
  gemm(queue, Op::none, Op::none, 1, MatrixView(weights, rows, keys, stride, dtype_of<T>),
       head.v.block(0, 0, keys, s.head_size), 0, out.block(first, 0, rows, s.head_size));
}

// Per thread: scores and their gradients (and both again in T), and the head's dK and dV in float32.
template <class T>
std::int64_t backward_floats(const AttentionShape& s) {
  return (2 + 2 * kWeightFloats<T>)*score_size(s) + 2 * s.time * s.head_size;
}

template <class T>
struct BackwardScratch {
  float *scores, *dscores, *dk, *dv;
  T *weights, *dweights;
  BackwardScratch(const AttentionShape& s, float* memory) {
    const std::int64_t n = score_size(s), pair = (1 + kWeightFloats<T>)*n;
    scores = memory;
    weights = weights_of<T>(scores, n);
    dscores = memory + pair;
    dweights = weights_of<T>(dscores, n);
    dk = memory + 2 * pair;
    dv = dk + s.time * s.head_size;
  }
};

// With P the weights, O the output row, D = dO·O: dS = P∘(dO·Vᵀ − D)·scale; dQ = dS·K, dK = dSᵀ·Q, dV =
// Pᵀ·dO.
template <class T>
void backward_rows(const AttentionShape& s, const BackwardScratch<T>& scratch, const MatrixView& out, const MatrixView& dout,
                   std::int64_t first, std::int64_t rows, const float* logsumexp) {
  const std::int64_t keys = first + rows, stride = score_stride(s);
  const float scale = scale_of(s);
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* o = static_cast<const T*>(out.data) + (first + i) * out.stride;
    const T* d = static_cast<const T*>(dout.data) + (first + i) * dout.stride;
    const float delta = Row{0, s.head_size}.sum([=](std::int64_t c) { return float(o[c]) * float(d[c]); });
    const float normaliser = logsumexp[first + i];
    float *p = scratch.scores + i * stride, *dp = scratch.dscores + i * stride;
    T *w = scratch.weights + i * stride, *dw = scratch.dweights + i * stride;
    const std::int64_t valid = first + i + 1;
    Row{0, valid}.each([=](std::int64_t j) {
      const float weight = math::exp(scale * p[j] - normaliser);
      const float slope = weight * (dp[j] - delta) * scale;
      w[j] = T(weight);
      dw[j] = T(slope);
    });
    for (std::int64_t j = valid; j < keys; ++j) w[j] = dw[j] = T(0.0f);
  }
}

template <class T>
void backward_block(Queue& queue, const AttentionShape& s, const Head& head, const MatrixView& out, const MatrixView& dout,
                    const MatrixView& dq, const BackwardScratch<T>& scratch, std::int64_t first, const float* logsumexp) {
  const std::int64_t rows = std::min(kQueryBlock, s.time - first), keys = first + rows, stride = score_stride(s);
  const std::int64_t d = s.head_size;
  const MatrixView q = head.q.block(first, 0, rows, d), k = head.k.block(0, 0, keys, d);
  const MatrixView v = head.v.block(0, 0, keys, d), dout_rows = dout.block(first, 0, rows, d);
  gemm(queue, Op::none, Op::transpose, 1, q, k, 0, MatrixView(scratch.scores, rows, keys, stride));
  gemm(queue, Op::none, Op::transpose, 1, dout_rows, v, 0, MatrixView(scratch.dscores, rows, keys, stride));
  backward_rows<T>(s, scratch, out, dout, first, rows, logsumexp);
  const MatrixView weights(scratch.weights, rows, keys, stride, dtype_of<T>);
  const MatrixView dweights(scratch.dweights, rows, keys, stride, dtype_of<T>);
  gemm(queue, Op::none, Op::none, 1, dweights, k, 0, dq.block(first, 0, rows, d));
  gemm(queue, Op::transpose, Op::none, 1, weights, dout_rows, 1, MatrixView(scratch.dv, keys, d, d));
  gemm(queue, Op::transpose, Op::none, 1, dweights, q, 1, MatrixView(scratch.dk, keys, d, d));
}

template <class T>
void store(const float* from, const MatrixView& to) {
  for (std::int64_t r = 0; r < to.rows; ++r) {
    T* out = static_cast<T*>(to.data) + r * to.stride;
    const float* in = from + r * to.cols;
    Row{0, to.cols}.each([=](std::int64_t c) { out[c] = T(in[c]); });
  }
}

template <class T>
void backward_head(Queue& queue, const AttentionShape& s, const Head& head, const MatrixView& out, const MatrixView& dout,
                   const Head& gradient, float* memory, const float* logsumexp) {
  const BackwardScratch<T> scratch(s, memory);
  std::fill_n(scratch.dk, 2 * s.time * s.head_size, 0.0f);  // dk and dv
  for (std::int64_t first = 0; first < s.time; first += kQueryBlock)
    backward_block<T>(queue, s, head, out, dout, gradient.q, scratch, first, logsumexp);
  store<T>(scratch.dk, gradient.k);
  store<T>(scratch.dv, gradient.v);
}

template <class T>
std::int64_t forward_floats(const AttentionShape& s) {
  return (1 + kWeightFloats<T>)*score_size(s);
}

Tensor scratch_for(Device& device, std::int64_t floats) {
  return Tensor::empty(device, {device.queue().threads(), floats}, Dtype::float32, Category::activations);
}

}  // namespace

void attention_forward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out,
                       const Tensor& logsumexp) {
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    const std::int64_t floats = forward_floats<T>(s), blocks = (s.time + kQueryBlock - 1) / kQueryBlock;
    const Tensor memory = scratch_for(device, floats);
    run_tasks_on_threads(device.queue(), s.batch * s.heads * blocks, [&](std::int64_t task, int thread) {
      const std::int64_t head = task / blocks, b = head / s.heads, h = head % s.heads;
      const std::int64_t block = blocks - 1 - task % blocks;  // the longest of a head first
      forward_block<T>(device.queue(), s, Head(s, qkv, b, h), head_of(s, out, b, h), block * kQueryBlock,
                       part_of(memory, thread), logsumexp.data<float>() + head * s.time);
    });
  });
}

void attention_backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& out,
                        const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    const std::int64_t floats = backward_floats<T>(s);
    const Tensor memory = scratch_for(device, floats);
    run_tasks_on_threads(device.queue(), s.batch * s.heads, [&](std::int64_t head, int thread) {
      const std::int64_t b = head / s.heads, h = head % s.heads;
      backward_head<T>(device.queue(), s, Head(s, qkv, b, h), head_of(s, out, b, h), head_of(s, dout, b, h),
                       Head(s, dqkv, b, h), part_of(memory, thread), logsumexp.data<float>() + head * s.time);
    });
  });
}

std::int64_t attention_backward_scratch(const AttentionShape& s, Dtype dtype) {
  const std::int64_t floats = dtype == Dtype::float32 ? backward_floats<float>(s) : backward_floats<bfloat16>(s);
  return 4 * omp_get_max_threads() * floats;
}

}  // namespace muonp::core::cpu
