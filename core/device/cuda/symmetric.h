// The GPU's passes over symmetric matrices (core/device/symmetric.h). float32, bfloat16 and float16 storage.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/device/symmetric.h"

namespace muonp::core::cuda {

// What of C there is to read: its lower triangle, or both, of which the mean is taken.
enum class Triangles : std::uint8_t { lower, mean };
// Every form of C, in order.
void write_forms(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> forms,
                 Triangles triangles);
// C ← (C + Cᵀ)/2
void average_with_transpose(Queue& queue, std::int64_t count, const StridedBatch& c);
// As core::symmetric_moments; waits for the queue.
std::array<double, 4> symmetric_moments(Queue& queue, const MatrixView& x, const MatrixView& y);

}  // namespace muonp::core::cuda
