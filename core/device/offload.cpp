#include "core/device/offload.h"

#include <algorithm>
#include <cstring>

#include "core/device/host_view.h"

namespace muonp::core {

Tensor zeros_in(bool host_memory, Device& device, Shape shape, Dtype dtype, Category category) {
  if (!host_memory) return Tensor::zeros(device, std::move(shape), dtype, category);
  const Tensor t = Tensor::staging(device, std::move(shape), dtype, category);
  const HostView view(device.queue(), t, Access::write);
  std::fill_n(static_cast<char*>(view.raw()), t.bytes(), char{0});
  return t;
}

// What lies in host memory is none of the device's to copy: an error, or undefined.
void read_tensor(Queue& queue, const Tensor& tensor, void* to) {
  if (!tensor.in_host_memory()) return queue.read(to, tensor.raw(), tensor.bytes());
  queue.synchronize();
  if (tensor.bytes() > 0) std::memcpy(to, tensor.raw(), static_cast<std::size_t>(tensor.bytes()));
}

void compute_in_pieces(Device& device, const std::vector<Tensor>& tensors, Pieces what, const PieceComputation& compute) {
  const std::int64_t size = tensors.front().size();
  if (std::ranges::none_of(tensors, &Tensor::in_host_memory)) return compute(0, size, tensors);
  for (std::int64_t begin = 0; begin < size; begin += kOffloadPiece) {
    const std::int64_t count = std::min(kOffloadPiece, size - begin);
    std::vector<Tensor> pieces;
    for (const Tensor& t : tensors) {
      const Tensor part = t.flat(begin, count);
      if (!t.in_host_memory()) {
        pieces.push_back(part);
        continue;
      }
      pieces.push_back(Tensor::empty(device, {count}, t.dtype(), Category::optimizer));
      device.queue().write(pieces.back().raw(), part.raw(), part.bytes());
    }
    compute(begin, count, pieces);
    if (what == Pieces::read) continue;
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i].in_host_memory())
        device.queue().read(tensors[i].flat(begin, count).raw(), pieces[i].raw(), pieces[i].bytes());
  }
}

}  // namespace muonp::core
