#include "core/device/host_view.h"

#include "core/device/offload.h"

namespace muonp::core {

HostView::HostView(Queue& queue, const Tensor& tensor, Access access) : queue_(queue), tensor_(tensor), raw_(tensor.raw()) {
  if (queue.kind() == DeviceKind::cpu || tensor.in_host_memory()) return;
  copy_ = Tensor::staging(queue.device(), tensor.shape(), tensor.dtype(), Category::other);
  raw_ = copy_.raw();
  if (access != Access::write) queue.read(raw_, tensor.raw(), tensor.bytes());
}

void HostView::upload() const {
  if (copy_) queue_.write(tensor_.raw(), raw_, tensor_.bytes());
}

float read_scalar(Queue& queue, const Tensor& tensor) {
  MUONP_ASSERT(tensor.size() == 1 && tensor.dtype() == Dtype::float32, "{} {} read as a scalar", name_of(tensor.dtype()),
               to_string(tensor.shape()));
  float value = 0;
  read_tensor(queue, tensor, &value);
  return value;
}

}  // namespace muonp::core
