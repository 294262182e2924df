// LAPACK, by OpenBLAS, which the first call loads: few commands need it, and it reserves much address space as it is loaded.
// All matrices are column-major, without gaps between columns. A result other than 0 is LAPACK's info. Error if it cannot be
// loaded, and where a limit leaves too little address space: OpenBLAS would wait for it for ever.
#pragma once

#include <cstdint>

namespace muonp::core::lapack {

// A [rows, cols] = U S Vᵀ with k = min(rows, cols): U [rows, k], Vᵀ [k, cols], s descending. A is destroyed. `work` of
// work_size floats (work_size −1: its best size comes in work[0], nothing else happens), 8k integers.
int sgesdd(int rows, int cols, float* a, float* s, float* u, float* vt, float* work, int work_size, std::int32_t* integers);
int dgesdd(int rows, int cols, double* a, double* s, double* u, double* vt);  // with work space of its own

// A [rows, cols ≤ rows] becomes Q of its QR factorisation.
int orthonormalize(int rows, int cols, double* a);

// Symmetric A [n, n] becomes its eigenvectors; values ascending. On one thread, so that every bit is the same for any
// number. Info −4 if an entry is not finite.
int dsyev(int n, double* a, double* values);
int dsyev_values(int n, double* a, double* values);  // values alone; A is destroyed

// C [m, n] = op(A)·op(B): A is [m, k], or [k, m] to be transposed; B is [k, n], or [n, k] to be transposed.
void dgemm(bool transpose_a, bool transpose_b, int m, int n, int k, const double* a, const double* b, double* c);

}  // namespace muonp::core::lapack
