// A dense row-major tensor: shared storage, an offset, a shape. Copying a Tensor copies the handle, not the data.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/shape.h"
#include "core/device/device.h"

namespace muonp::core {

class Tensor {
 public:
  Tensor() = default;  // no storage; false in a condition

  // Uninitialised and zeroed storage from the device's allocator, released with the last handle.
  static Tensor empty(Device& device, Shape shape, Dtype dtype, Category category);
  static Tensor zeros(Device& device, Shape shape, Dtype dtype, Category category);
  // Uninitialised host memory from the device's host_allocator(), for what is copied to or from the device.
  static Tensor staging(Device& device, Shape shape, Dtype dtype, Category category);
  // Uninitialised host memory, whatever the device: tokens, and what the host fills before it is copied. Not counted.
  static Tensor on_host(Shape shape, Dtype dtype);
  // A view of memory that somebody else owns and keeps alive.
  static Tensor borrow(void* data, Shape shape, Dtype dtype);

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(int i) const { return shape_[at(i < 0 ? i + rank() : i)]; }
  int rank() const { return static_cast<int>(shape_.size()); }
  std::int64_t size() const { return size_; }  // elements
  std::int64_t bytes() const { return size_ * size_of(dtype_); }
  Dtype dtype() const { return dtype_; }
  bool is_shared() const { return storage_.use_count() > 1; }  // other handles have the same storage
  bool in_host_memory() const { return host_; }                // made by staging() or on_host()

  void* raw() const { return static_cast<char*>(storage_.get()) + offset_bytes_; }
  template <class T>
  T* data() const {
    MUONP_ASSERT(dtype_ == dtype_of<T>, "a {} tensor read as {}", name_of(dtype_), name_of(dtype_of<T>));
    return static_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<std::size_t>(size_)};
  }

  // Views share the storage. view(): same elements, other shape. flat(): elements [begin, begin + count) in
  // row-major order as a 1-D tensor. operator[]: the i-th entry along the first dimension.
  Tensor view(Shape shape) const;
  Tensor flat(std::int64_t begin, std::int64_t count) const;
  Tensor operator[](std::int64_t i) const;

  void zero(Queue& queue) const { queue.fill_zero(raw(), bytes()); }
  void copy_from(Queue& queue, const Tensor& source) const;  // same dtype and size

 private:
  static Tensor from(const std::shared_ptr<Allocator>& allocator, Shape shape, Dtype dtype, Category category);

  std::shared_ptr<void> storage_;
  std::int64_t offset_bytes_ = 0, size_ = 0;
  Shape shape_;
  Dtype dtype_ = Dtype::float32;
  bool host_ = false;
};

}  // namespace muonp::core
