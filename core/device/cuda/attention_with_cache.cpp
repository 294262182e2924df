#include "core/base/storage.h"
#include "core/device/cuda/attention.h"
#include "core/device/cuda/flash_attention.h"
#include "core/device/for_each.h"

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

}  // namespace

void attention_with_cache(Device& device, const AttentionHeads& heads, const Tensor& qkv, const Tensor& keys,
                          const Tensor& values, std::span<const std::int64_t> lengths, const Tensor& out) {
  if (qkv.size() == 0) return;
  const std::vector<std::int32_t> narrow(lengths.begin(), lengths.end());
  const Tensor before = Tensor::empty(device, {std::ssize(lengths)}, Dtype::int32, Category::activations);
  device.queue().write(before.raw(), narrow.data(), before.bytes());
  with_float_type(qkv.dtype(), [&]<class T>(T) { store<T>(device.queue(), heads, qkv, keys, values, before); });
  flash_with_cache(device, heads, qkv, keys, values, before, out);
}

}  // namespace muonp::core::cuda
