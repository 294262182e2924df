// All singular values of a matrix, by the eigenvalues of its Gram matrix in double precision.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/device/device.h"

namespace muonp::optim {

// [rows, cols] floats in host memory, finite, each row `pitch` behind the last.
struct HostMatrix {
  const float* data = nullptr;
  std::int64_t rows = 0, cols = 0, pitch = 0;
};

// Descending, min(rows, cols) of each matrix. Those below 1e-8 of the largest are rounding. About 2·k·n² + 4/3·n³
// operations, n the shorter side and k the longer one, a thread a matrix: the same matrix gives the same bits with any
// number of them. Error if LAPACK cannot.
std::vector<std::vector<double>> singular_values(core::Queue& queue, std::span<const HostMatrix> matrices);
double singular_values_flops(std::int64_t rows, std::int64_t cols);

}  // namespace muonp::optim
