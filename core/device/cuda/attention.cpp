#include "core/device/cuda/attention.h"

#include "core/device/cuda/attention_block.h"
#include "core/device/cuda/flash_attention.h"
#include "core/device/cuda/queue.h"

namespace muonp::core::cuda {

namespace {

// With P the weights, O the output row, D = dO·O: dS = P∘(dO·Vᵀ − D)·scale. Writes P and dS.
template <class T>
struct SoftmaxGradient {
  const float *scores, *dweights;  // Q·Kᵀ and dO·Vᵀ
  T *weights, *dscores;
  const float* logsumexp;
  const T *out, *dout;  // [batch, time, query heads, size]
  ScoreRows rows;
  std::int64_t heads, size;  // query heads of one sequence
  float scale;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t head = rows.head(row.index), query = rows.query(row.index), time = rows.time;
    const std::int64_t at = ((head / heads * time + query) * heads + head % heads) * size;
    const T *o = out + at, *d = dout + at;
    const float delta = row.part(size).sum([](T x, T y) { return float(x) * float(y); }, o, d);
    const float total = logsumexp[head * time + query], by = scale;
    const std::int64_t begin = rows.begin(row.index), end = rows.end(row.index), seen = row.index * row.cols + begin;
    T *w = weights + row.index * row.cols, *ds = dscores + row.index * row.cols;
    row.part(end - begin)
        .over(
            [=](float score, float dweight, T& weight, T& dscore) {
              const float value = math::exp(by * score - total);
              weight = T(value);
              dscore = T(value * (dweight - delta) * by);
            },
            scores + seen, dweights + seen, Written<T>{w + begin}, Written<T>{ds + begin});
    row.each([=](std::int64_t j) {
      if (j < begin || j >= end) w[j] = ds[j] = T(0.0f);
    });
  }
};

template <class F>
void for_each_block(const AttentionShape& s, const F& f) {
  const std::int64_t rows = gpu_query_rows(s);
  for (std::int64_t first = 0; first < s.time; first += rows) f(make_block(s, first, std::min(rows, s.time - first)));
}

const std::int32_t* ids_of(const Tensor& t) { return t ? t.data<std::int32_t>() : nullptr; }

template <class T>
void forward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
             const Tensor& logsumexp, const Tensor& maxima) {
  Queue& queue = device.queue();
  const std::int64_t heads = s.key_heads(), most = gpu_query_rows(s);
  const Scores<float> scores(device, s, most, Dtype::float32);
  const Scores<T> weights(device, s, most, qkv.dtype());
  const Heads q = Heads::queries(device, s, qkv.dtype()), k = Heads::keys(device, s, qkv.dtype()),
              v = Heads::values(device, s, qkv.dtype()), result = Heads::result(device, s, qkv.dtype());
  for (const Heads* in : {&q, &k, &v}) in->read<T>(qkv);
  for_each_block(s, [&](const Block& b) {
    gemm_batched(queue, heads, Op::none, Op::transpose, 1, q.rows(b.first, b.rows), k.rows(b.low, b.keys), 0,
                 scores.batch(b));
    core::for_each_row(
        queue, s.query_heads() * b.rows, b.keys,
        Softmax<T>{scores.data(), weights.data(), logsumexp.data<float>(), maxima ? maxima.data<float>() : nullptr,
                   ScoreRows(s, b, ids_of(begins)), scale_of(s.heads)});
    gemm_batched(queue, heads, Op::none, Op::none, 1, weights.batch(b), v.rows(b.low, b.keys), 0,
                 result.rows(b.first, b.rows));
  });
  result.write<T, T>(out);
}

template <class T>
void backward(Device& device, const AttentionShape& s, const Tensor& qkv, const Tensor& begins, const Tensor& out,
              const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  Queue& queue = device.queue();
  const std::int64_t heads = s.key_heads(), most = gpu_query_rows(s);
  const Scores<float> scores(device, s, most, Dtype::float32), dweights(device, s, most, Dtype::float32);
  const Scores<T> weights(device, s, most, qkv.dtype()), dscores(device, s, most, qkv.dtype());
  const Heads q = Heads::queries(device, s, qkv.dtype()), k = Heads::keys(device, s, qkv.dtype()),
              v = Heads::values(device, s, qkv.dtype()), dresult = Heads::result(device, s, qkv.dtype()),
              dq = Heads::queries(device, s, Dtype::float32), dk = Heads::keys(device, s, Dtype::float32),
              dv = Heads::values(device, s, Dtype::float32);
  for (const Heads* in : {&q, &k, &v}) in->read<T>(qkv);
  dresult.read<T>(dout);
  for (const Heads* sum : {&dk, &dv}) sum->tensor().zero(queue);
  for_each_block(s, [&](const Block& b) {
    const StridedBatch queries = q.rows(b.first, b.rows), douts = dresult.rows(b.first, b.rows),
                       keys = k.rows(b.low, b.keys);
    gemm_batched(queue, heads, Op::none, Op::transpose, 1, queries, keys, 0, scores.batch(b));
    gemm_batched(queue, heads, Op::none, Op::transpose, 1, douts, v.rows(b.low, b.keys), 0, dweights.batch(b));
    core::for_each_row(
        queue, s.query_heads() * b.rows, b.keys,
        SoftmaxGradient<T>{scores.data(), dweights.data(), weights.data(), dscores.data(), logsumexp.data<float>(),
                           out.data<T>(), dout.data<T>(), ScoreRows(s, b, ids_of(begins)), s.heads.queries, s.heads.size,
                           scale_of(s.heads)});
    gemm_batched(queue, heads, Op::none, Op::none, 1, dscores.batch(b), keys, 0, dq.rows(b.first, b.rows));
    gemm_batched(queue, heads, Op::transpose, Op::none, 1, dscores.batch(b), queries, 1, dk.rows(b.low, b.keys));
    gemm_batched(queue, heads, Op::transpose, Op::none, 1, weights.batch(b), douts, 1, dv.rows(b.low, b.keys));
  });
  for (const Heads* sum : {&dq, &dk, &dv}) sum->write<float, T>(dqkv);
}

bool is_fused(const AttentionShape& s, Dtype dtype) { return fusion_refusal(s, dtype).empty(); }

FusedAttention& fused_attention_of(Device& device) { return static_cast<CudaQueue&>(device.queue()).fused_attention(); }

}  // namespace

void attention_forward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                       const Tensor& out, const Tensor& logsumexp, const Tensor& maxima) {
  if (is_fused(shape, qkv.dtype())) return fused_attention_of(device).forward(device, shape, qkv, out, logsumexp);
  if (flash_refusal(shape, qkv.dtype()).empty()) return flash_forward(device, shape, qkv, begins, out, logsumexp, maxima);
  with_float_type(qkv.dtype(), [&]<class T>(T) { forward<T>(device, shape, qkv, begins, out, logsumexp, maxima); });
}

void attention_backward(Device& device, const AttentionShape& shape, const Tensor& qkv, const Tensor& begins,
                        const Tensor& out, const Tensor& logsumexp, const Tensor& dout, const Tensor& dqkv) {
  if (is_fused(shape, qkv.dtype()))
    return fused_attention_of(device).backward(device, shape, qkv, out, logsumexp, dout, dqkv);
  if (flash_refusal(shape, qkv.dtype()).empty())
    return flash_backward(device, shape, qkv, begins, out, logsumexp, dout, dqkv);
  with_float_type(qkv.dtype(), [&]<class T>(T) { backward<T>(device, shape, qkv, begins, out, logsumexp, dout, dqkv); });
}

// Lengths in whole tiles of cuDNN's only: a plan costs the host a second, which a text that grows by one token at a time
// would pay for each.
std::string fusion_refusal(const AttentionShape& s, Dtype dtype) {
  constexpr std::int64_t kTimes = 64;
  if (std::string refusal = flash_refusal(s, dtype); !refusal.empty()) return refusal;
  if (s.time % kTimes != 0) return fmt::format("cuDNN is asked for sequences of multiples of {}, not of {}", kTimes, s.time);
  if (s.documents) return "cuDNN is asked for whole sequences, not for documents within them";
  if (s.maxima) return "cuDNN keeps no largest logit, which model.qk_clip needs";
  if (s.heads.window != 0 && s.heads.window < s.time)
    return fmt::format("cuDNN is asked for all positions before, not for a window of {}", s.heads.window);
  return fusion_library_refusal();
}

}  // namespace muonp::core::cuda
