// The largest singular values of matrices by Golub-Kahan-Lanczos bidiagonalisation (Golub and Kahan, 1965).
#pragma once

#include <cstdint>

#include "core/device/blas.h"
#include "core/device/device.h"
#include "core/device/tensor.h"

namespace muonp::optim {

// matrices: float32, on the queue's device, finite. The result is a double a matrix in that device's memory, as
// spectral::numbers() makes them, for which the host does not wait: a lower bound on σ_max. 24 steps find it to better than
// 1e-3 on Gaussian matrices, which have no gap, and to rounding up to 24 columns, for 96·rows·cols operations a matrix.
// 0 for a zero matrix; matrices without elements are not asked for. The same matrix gives the same bits with any number of
// threads.
core::Tensor spectral_norms(core::Queue& queue, std::int64_t count, const core::StridedBatch& matrices);
// Of one matrix, [rows, cols], for the host. 0 for an empty one.
double spectral_norm(core::Queue& queue, const core::Tensor& matrix);

}  // namespace muonp::optim
