// Singular values and vectors in double precision: the reference that spectral powers are measured against.
#pragma once

#include <cstdint>
#include <vector>

namespace muonp::launch {

// G = Σ σ_i u_i v_iᵀ with k = min(rows, cols) terms.
struct SingularSystem {
  std::int64_t rows = 0, cols = 0;
  std::vector<double> sigma;  // k, descending
  std::vector<double> u, v;   // vector i at [i·rows, (i + 1)·rows) and [i·cols, (i + 1)·cols)
  std::int64_t size() const { return std::ssize(sigma); }
};

// Of a row-major rows × cols matrix, by LAPACK's divide and conquer (dgesdd). Error if it does not converge.
SingularSystem singular_system_of(const float* matrix, std::int64_t rows, std::int64_t cols);

// Random orthonormal vectors (QR of Gaussian matrices); σ geometric from 1 down to `smallest`.
SingularSystem random_singular_system(std::int64_t rows, std::int64_t cols, double smallest, std::uint64_t seed);

// Σ σ_iᵖ u_i v_iᵀ, row-major. A singular value that rounding alone can make (below max(rows, cols)·2⁻²⁴ of
// the largest) counts as zero where p ≤ 0, and a zero stays zero.
std::vector<double> power_of(const SingularSystem& system, double p);

struct SpectralErrors {
  double worst = 0;          // max |u_iᵀ Z v_i − σ_iᵖ| / σ_iᵖ over σ_i ≥ smallest; NaN if there is none
  double frobenius = 0;      // ‖Z − U Sᵖ Vᵀ‖_F / ‖U Sᵖ Vᵀ‖_F; ‖Z‖_F if that is zero
  std::int64_t counted = 0;  // singular values that `worst` is over
};
// Of a row-major rows × cols matrix z.
SpectralErrors measure_errors(const SingularSystem& system, const float* z, double p, double smallest);

}  // namespace muonp::launch
