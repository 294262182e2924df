// A tensor as the host reads and writes it: the tensor's own memory where that is the host's, a copy of it elsewhere.
#pragma once

#include <span>

#include "core/device/tensor.h"

namespace muonp::core {

enum class Access : std::uint8_t { read, write, read_write };

class HostView {
 public:
  // read, read_write: waits for the queue and brings the elements here. write: they are undefined at first.
  HostView(Queue& queue, const Tensor& tensor, Access access);

  void* raw() const { return raw_; }
  template <class T>
  T* data() const {
    MUONP_ASSERT(tensor_.dtype() == dtype_of<T>, "a {} tensor read as {}", name_of(tensor_.dtype()), name_of(dtype_of<T>));
    return static_cast<T*>(raw_);
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<std::size_t>(tensor_.size())};
  }
  // Brings what was written here back into the tensor.
  void upload() const;

 private:
  Queue& queue_;
  Tensor tensor_;
  Tensor copy_;  // none of host memory
  void* raw_;
};

// A float32 scalar; waits for the queue.
float read_scalar(Queue& queue, const Tensor& tensor);

// `count` values of T that a kernel writes and the host then reads: sums, counts, flags.
template <class T>
class HostResult {
 public:
  HostResult(Queue& queue, std::int64_t count) : queue_(queue), host_(static_cast<std::size_t>(count)) {
    static_assert(sizeof(T) % 4 == 0);
    if (queue.kind() != DeviceKind::cpu)
      memory_ =
          Tensor::empty(queue.device(), {count * static_cast<std::int64_t>(sizeof(T) / 4)}, Dtype::int32, Category::other);
  }
  T* to_write() { return memory_ ? static_cast<T*>(memory_.raw()) : host_.data(); }
  const std::vector<T>& read() {
    if (memory_) queue_.read(host_.data(), memory_.raw(), memory_.bytes());
    return host_;
  }

 private:
  Queue& queue_;
  std::vector<T> host_;
  Tensor memory_;
};

}  // namespace muonp::core
