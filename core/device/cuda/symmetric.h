// The GPU's passes over symmetric matrices (core/device/symmetric.h). float32, bfloat16 and float16 storage.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/device/symmetric.h"

namespace muonp::core::cuda {

// C = alpha·op(A)·op(B), which is symmetric, of each of `count`: the blocks of so many rows and columns on the diagonal and
// below it, as one batch.
void multiply_lower(Queue& queue, std::int64_t count, float alpha, Op op_a, const StridedBatch& a, Op op_b,
                    const StridedBatch& b, const StridedBatch& c, std::int64_t block);
// Every form of C's lower triangle, in order.
void write_forms(Queue& queue, std::int64_t count, const StridedBatch& c, std::span<const SymmetricForm> forms);
// C ← (C + Cᵀ)/2
void average_with_transpose(Queue& queue, std::int64_t count, const StridedBatch& c);
// As core::symmetric_moments; waits for the queue.
std::array<double, 4> symmetric_moments(Queue& queue, const MatrixView& x, const MatrixView& y);

}  // namespace muonp::core::cuda
