// All singular values of a matrix, by the eigenvalues of its Gram matrix in double precision.
#pragma once

#include <cstdint>
#include <vector>

namespace muonp::optim {

// Of [rows, cols] floats in host memory, finite, each row `pitch` behind the last; descending, min(rows, cols) of them.
// Those below 1e-8 of the largest are rounding. About 2·k·n² + 4/3·n³ operations, n the shorter side and k the longer one,
// on one thread: the same matrix gives the same bits with any number. Error if LAPACK cannot.
std::vector<double> singular_values(const float* matrix, std::int64_t rows, std::int64_t cols, std::int64_t pitch);
double singular_values_flops(std::int64_t rows, std::int64_t cols);

}  // namespace muonp::optim
