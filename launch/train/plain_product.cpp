#include "launch/train/plain_product.h"

#include "core/base/storage.h"

namespace muonp::launch {
namespace {

core::Tensor filled(core::Device& device, core::Shape shape, core::Dtype dtype) {
  core::Tensor tensor = core::Tensor::empty(device, std::move(shape), dtype, core::Category::other);
  core::with_storage(dtype, [&]<class T>(T) {
    std::vector<T> values(static_cast<std::size_t>(tensor.size()));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = T(static_cast<float>((i * 2654435761u >> 8) % 1024) / 512 - 1);
    device.queue().write(tensor.raw(), values.data(), tensor.bytes());
  });
  return tensor;
}

}  // namespace

PlainProduct::PlainProduct(core::Device& device, std::int64_t rows, std::int64_t n, core::Dtype dtype)
    : queue_(device.queue()),
      a_(filled(device, {rows, n}, dtype)),
      b_(filled(device, {n, n}, dtype)),
      c_(core::Tensor::empty(device, {rows, n}, dtype, core::Category::other)),
      flops_(core::gemm_flops(rows, n, n)) {}

void PlainProduct::run() const {
  core::gemm(queue_, core::Op::none, core::Op::none, 1, core::MatrixView(a_), core::MatrixView(b_), 0, core::MatrixView(c_));
}

}  // namespace muonp::launch
