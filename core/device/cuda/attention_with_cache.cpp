#include "core/base/index.h"
#include "core/device/cuda/attention.h"
#include "core/device/cuda/attention_block.h"

namespace muonp::core::cuda {

namespace {

// Row t, the keys of all heads, to the cache at t; and the values.
template <class T>
struct Store {
  const T* packed;      // the keys of the first new position; the values follow
  std::int64_t stride;  // from one position to the next
  T *keys, *values;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const T *k = packed + row.index * stride, *v = k + row.cols;
    T *to_keys = keys + row.index * row.cols, *to_values = values + row.index * row.cols;
    row.over([](T value, T& out) { out = value; }, k, Written<T>{to_keys});
    row.over([](T value, T& out) { out = value; }, v, Written<T>{to_values});
  }
};

// The cache of one sequence, from `low` on.
StridedBatch cached(const AttentionHeads& heads, const Tensor& of_sequence, std::int64_t low, std::int64_t count) {
  return {MatrixView(of_sequence).block(low, 0, count, heads.size), heads.size};
}

template <class T>
void run(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys, const Tensor& values,
         std::span<const std::int64_t> lengths, const Tensor& out) {
  Queue& queue = device.queue();
  const std::int64_t added = qkv.dim(1);
  const AttentionShape fresh{qkv.dim(0), added, heads}, sequence{1, keys.dim(1), heads};
  const std::int64_t most = std::min(added, gpu_query_rows(sequence));
  const Scores<float> scores(device, sequence, most, Dtype::float32);
  const Scores<T> weights(device, sequence, most, qkv.dtype());
  const Heads q = Heads::queries(device, fresh, qkv.dtype()), result = Heads::result(device, fresh, qkv.dtype());
  q.read<T>(qkv);
  for (std::int64_t b = 0; b < fresh.batch; ++b) {
    const std::int64_t length = lengths[at(b)], head = b * heads.keys;
    const Tensor k = keys[b], v = values[b];
    core::for_each_row(
        queue, added, heads.key_width(),
        Store<T>{qkv[b].data<T>() + heads.query_width(), heads.width(), k[length].data<T>(), v[length].data<T>()});
    for (std::int64_t first = 0; first < added; first += most) {
      const Block block = make_block(sequence, length + first, std::min(most, added - first));
      gemm_batched(queue, heads.keys, Op::none, Op::transpose, 1, q.rows(first, block.rows, head),
                   cached(heads, k, block.low, block.keys), 0, scores.batch(block));
      core::for_each_row(
          queue, heads.queries * block.rows, block.keys,
          Softmax<T>{scores.data(), weights.data(), nullptr, nullptr, ScoreRows(sequence, block, nullptr), scale_of(heads)});
      gemm_batched(queue, heads.keys, Op::none, Op::none, 1, weights.batch(block), cached(heads, v, block.low, block.keys),
                   0, result.rows(first, block.rows, head));
    }
  }
  result.write<T, T>(out);
}

}  // namespace

void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out) {
  if (qkv.size() == 0) return;
  with_float_type(qkv.dtype(), [&]<class T>(T) { run<T>(device, heads, qkv, keys, values, lengths, out); });
}

}  // namespace muonp::core::cuda
