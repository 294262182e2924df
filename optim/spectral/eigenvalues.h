// All eigenvalues of symmetric positive semi-definite matrices, and no eigenvectors, on whatever device they lie.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/blas.h"

namespace muonp::optim::spectral {

// Of `count` float32 matrices n × n, both triangles, none with an element above 1: n eigenvalues each, ascending, not
// negative. By Householder's tridiagonalisation (tridiagonal.h), which destroys them, and bisection (Golub and Van Loan,
// Matrix Computations, 8.3 and 8.4). The error of an eigenvalue is float32's, relative to the largest; of a zero matrix they
// are 0. The same bits with any number of threads. A GPU takes all matrices in 2n + 2 launches, and the host waits once.
std::vector<float> symmetric_eigenvalues(core::Queue& queue, std::int64_t count, const core::StridedBatch& matrices);

// Of one matrix: floating-point operations, and bytes of scratch memory.
double symmetric_eigenvalues_flops(std::int64_t n, core::DeviceKind device);
std::int64_t symmetric_eigenvalues_bytes(std::int64_t n, core::DeviceKind device);

}  // namespace muonp::optim::spectral
