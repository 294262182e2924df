// Tensors that a GPU keeps in host memory, and how it computes on them.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/device/tensor.h"

namespace muonp::core {

// Elements of a tensor that are on the device at a time.
inline constexpr std::int64_t kOffloadPiece = 1 << 22;

// Zeros in the device's memory, or in pinned host memory.
Tensor zeros_in(bool host_memory, Device& device, Shape shape, Dtype dtype, Category category);

// Copies a tensor's elements, wherever they lie, to `to` in host memory; waits for the queue.
void read_tensor(Queue& queue, const Tensor& tensor, void* to);

// An elementwise computation on tensors of one size, some of which may lie in host memory: `compute` is called with
// elements [begin, begin + count) of all of them on the device, in pieces of at most kOffloadPiece elements, and what lay
// in host memory is brought back after where it changed. Once, with the tensors themselves, where none does. The
// device's copies are counted as Category::optimizer.
enum class Pieces : std::uint8_t { read, changed };
using PieceComputation = std::function<void(std::int64_t begin, std::int64_t count, std::span<const Tensor> on_device)>;
void compute_in_pieces(Device& device, const std::vector<Tensor>& tensors, Pieces what, const PieceComputation& compute);

}  // namespace muonp::core
