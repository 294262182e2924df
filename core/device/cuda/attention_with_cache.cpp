#include "core/base/index.h"
#include "core/device/cuda/attention.h"
#include "core/device/cuda/attention_block.h"
#include "core/device/cuda/flash_attention.h"

namespace muonp::core::cuda {

namespace {

// Row t of sequence b, the keys of all heads, to the cache behind what is there; and the values. Rows are [batch, added].
template <class T>
struct Store {
  const T* packed;      // the keys of the first new position; the values follow
  std::int64_t stride;  // from one position to the next
  T *keys, *values;
  const std::int32_t* lengths;
  std::int64_t added, capacity;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const std::int64_t b = row.index / added, t = row.index % added, to = (b * capacity + lengths[b] + t) * row.cols;
    const T *k = packed + row.index * stride, *v = k + row.cols;
    row.over([](T value, T& out) { out = value; }, k, Written<T>{keys + to});
    row.over([](T value, T& out) { out = value; }, v, Written<T>{values + to});
  }
};

template <class T>
void store(Queue& queue, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys, const Tensor& values,
           const Tensor& lengths) {
  core::for_each_row(queue, qkv.dim(0) * qkv.dim(1), heads.key_width(),
                     Store<T>{qkv.data<T>() + heads.query_width(), heads.width(), keys.data<T>(), values.data<T>(),
                              lengths.data<std::int32_t>(), qkv.dim(1), keys.dim(1)});
}

// The cache of one sequence, from `low` on.
StridedBatch cached(const AttentionHeads& heads, const Tensor& of_sequence, std::int64_t low, std::int64_t count) {
  return {MatrixView(of_sequence).block(low, 0, count, heads.size), heads.size};
}

template <class T>
void in_blocks(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys, const Tensor& values,
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
  const std::vector<std::int32_t> narrow(lengths.begin(), lengths.end());
  const Tensor before = Tensor::empty(device, {std::ssize(lengths)}, Dtype::int32, Category::activations);
  device.queue().write(before.raw(), narrow.data(), before.bytes());
  with_float_type(qkv.dtype(), [&]<class T>(T) {
    store<T>(device.queue(), heads, qkv, keys, values, before);
    if (flash_refusal({qkv.dim(0), qkv.dim(1), heads}, qkv.dtype()).empty())
      flash_with_cache(device, heads, qkv, keys, values, before, out);
    else
      in_blocks<T>(device, heads, qkv, keys, values, lengths, out);
  });
}

}  // namespace muonp::core::cuda
