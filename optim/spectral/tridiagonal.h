// Householder's reduction of a symmetric matrix to tridiagonal form (Golub and Van Loan, Matrix Computations, 8.3): what
// CPU and GPU have in common, and the CPU's. A GPU's kernels are in eigenvalues.cpp.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/device/blas.h"

namespace muonp::optim::spectral {

// I − twist·v vᵀ takes the vector (x1, x2, ...) to (norm, 0, ...); v = (1, scale·x2, ...). `rest` = Σ x2² + ...
struct Reflector {
  double norm, scale, twist;

  MUONP_HD static Reflector of(double x1, double rest) {
    if (!(rest > 1e-60)) return {x1, 0, 0};  // there is nothing to zero: beside elements of 1 float32 does not see it
    const double norm = x1 > 0 ? -sqrt(x1 * x1 + rest) : sqrt(x1 * x1 + rest);
    return {norm, 1 / (x1 - norm), (norm - x1) / norm};
  }
};

// Of the float32 a [n, n] in host memory, none of whose elements is above 1; its upper triangle is read, and destroyed.
// `beside` gets n − 1 elements. The same bits with any number of threads. LAPACK's way (ssytrd, ssymv): the rest of the
// matrix is updated for several reflectors at a time, by products, so that each of them reads it once, one triangle of it.
void tridiagonalize(core::Queue& queue, const core::MatrixView& a, float* scratch, float* diagonal, float* beside);
std::int64_t tridiagonal_scratch(std::int64_t n);  // elements of it

}  // namespace muonp::optim::spectral
