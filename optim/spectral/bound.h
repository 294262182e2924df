// An upper bound on the largest eigenvalue of a positive semi-definite matrix from its first four moments.
#pragma once

#include <array>
#include <cstdint>

namespace muonp::optim::spectral {

// moments = {tr A, tr A², tr A³, tr A⁴} of an n×n matrix A ⪰ 0, correct to a relative 1e-6. The eigenvalues
// are n point masses with moments s₀ = n … s₄; a mass of 1 at x is possible only while the Hankel matrix of
// s₀ … s₄, less that of the mass, stays positive semi-definite, that is while (1, x, x²)·H⁻¹·(1, x, x²)ᵀ ≤ 1.
// The largest such x is the bound. Never above the Schatten bound (tr A⁴)^(1/4); equal to λ_max for spectra
// of one or two values.
double eigenvalue_bound(std::int64_t n, const std::array<double, 4>& moments);

}  // namespace muonp::optim::spectral
