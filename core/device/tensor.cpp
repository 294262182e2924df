#include "core/device/tensor.h"

#include <algorithm>

namespace muonp::core {

Tensor Tensor::empty(Device& device, Shape shape, Dtype dtype, Category category) {
  return from(device.allocator(), std::move(shape), dtype, category);
}

Tensor Tensor::staging(Device& device, Shape shape, Dtype dtype, Category category) {
  Tensor t = from(device.host_allocator(), std::move(shape), dtype, category);
  t.host_ = true;
  return t;
}

Tensor Tensor::from(const std::shared_ptr<Allocator>& allocator, Shape shape, Dtype dtype, Category category) {
  Tensor t;
  t.size_ = element_count(shape);
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  const std::int64_t bytes = t.bytes();
  void* block = allocator->allocate(bytes, category);
  t.storage_ = std::shared_ptr<void>(
      block, [allocator, bytes, category](void* pointer) { allocator->release(pointer, bytes, category); });
  return t;
}

Tensor Tensor::zeros(Device& device, Shape shape, Dtype dtype, Category category) {
  Tensor t = empty(device, std::move(shape), dtype, category);
  t.zero(device.queue());
  return t;
}

Tensor Tensor::on_host(Shape shape, Dtype dtype) {
  const auto bytes = static_cast<std::size_t>(element_count(shape) * size_of(dtype));
  Tensor t = borrow(nullptr, std::move(shape), dtype);
  t.host_ = true;
  t.storage_ = std::make_shared_for_overwrite<char[]>(std::max<std::size_t>(bytes, 1));
  return t;
}

Tensor Tensor::borrow(void* data, Shape shape, Dtype dtype) {
  Tensor t;
  t.size_ = element_count(shape);
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  t.storage_ = std::shared_ptr<void>(data, [](void*) {});
  return t;
}

Tensor Tensor::view(Shape shape) const {
  MUONP_ASSERT(element_count(shape) == size_, "{} viewed as {}", to_string(shape_), to_string(shape));
  Tensor t = *this;
  t.shape_ = std::move(shape);
  return t;
}

Tensor Tensor::flat(std::int64_t begin, std::int64_t count) const {
  MUONP_ASSERT(begin >= 0 && count >= 0 && begin + count <= size_, "[{}, {}) of {} elements", begin, begin + count, size_);
  Tensor t = *this;
  t.offset_bytes_ += begin * size_of(dtype_);
  t.size_ = count;
  t.shape_ = {count};
  return t;
}

Tensor Tensor::operator[](std::int64_t i) const {
  MUONP_ASSERT(rank() >= 1 && i >= 0 && i < shape_[0], "entry {} of {}", i, to_string(shape_));
  const Shape rest(shape_.begin() + 1, shape_.end());
  const std::int64_t count = element_count(rest);
  return flat(i * count, count).view(rest);
}

void Tensor::copy_from(Queue& queue, const Tensor& source) const {
  MUONP_ASSERT(dtype_ == source.dtype_ && size_ == source.size_, "{} {} copied from {} {}", name_of(dtype_),
               to_string(shape_), name_of(source.dtype_), to_string(source.shape_));
  MUONP_ASSERT(queue.kind() == DeviceKind::cpu || (!host_ && !source.host_), "a device's copy of {} in host memory",
               to_string(shape_));
  queue.copy(raw(), source.raw(), bytes());
}

}  // namespace muonp::core
