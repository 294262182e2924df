// An upper bound on the largest eigenvalue of a positive semi-definite matrix from its first four moments.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "core/base/dtype.h"

namespace muonp::optim::spectral {

// Rounding of the moments must not shrink the bound: the diagonal of H is enlarged by more than their error.
inline constexpr double kMomentSlack = 2e-5;

// moments = {tr A, tr A², tr A³, tr A⁴} of an n×n matrix A ⪰ 0, correct to a relative 1e-6. The eigenvalues
// are n point masses with moments s₀ = n … s₄; a mass of 1 at x is possible only while the Hankel matrix of
// s₀ … s₄, less that of the mass, stays positive semi-definite, that is while (1, x, x²)·H⁻¹·(1, x, x²)ᵀ ≤ 1.
// The largest such x is the bound. Never above the Schatten bound (tr A⁴)^(1/4); equal to λ_max for spectra
// of one or two values.
double eigenvalue_bound(std::int64_t n, const std::array<double, 4>& moments);

// ---- the same for kernels, which have no memory for lists ----

namespace device_bound {

// c₀ + c₁x + …, of a degree.
template <int degree>
MUONP_HD double evaluate(const double (&c)[degree + 1], double x) {
  double value = c[degree];
  for (int k = degree - 1; k >= 0; --k) value = value * x + c[k];
  return value;
}

// Where the polynomial changes sign between left and right, or `none`.
template <int degree>
MUONP_HD double change_between(const double (&c)[degree + 1], double left, double right, double none) {
  constexpr int kHalvings = 50;
  const bool negative = evaluate<degree>(c, left) < 0;
  if ((evaluate<degree>(c, right) < 0) == negative) return none;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (left + right);
    ((evaluate<degree>(c, middle) < 0) == negative ? left : right) = middle;
  }
  return 0.5 * (left + right);
}

// [0, 1] in pieces of which each has one change of sign at most: all changes of sign are among their ends.
template <int degree>
MUONP_HD void split(const double (&c)[degree + 1], double (&ends)[degree + 2]) {
  ends[0] = 0;
  ends[degree + 1] = 1;
  if constexpr (degree > 0) {
    double derivative[degree], pieces[degree + 1];  // between two extrema there is one change at most
    for (int k = 0; k < degree; ++k) derivative[k] = (k + 1) * c[k + 1];
    split<degree - 1>(derivative, pieces);
    for (int i = 0; i < degree; ++i) ends[i + 1] = change_between<degree>(c, pieces[i], pieces[i + 1], pieces[i + 1]);
  }
}

}  // namespace device_bound

// eigenvalue_bound() of moments of which the last is positive and finite, with a slack of the caller's.
MUONP_HD inline double eigenvalue_bound(double n, double trace, double aa, double ab, double bb, double slack) {
  const double schatten = sqrt(sqrt(bb));
  const double s1 = trace / schatten, s2 = aa / (schatten * schatten), s3 = ab / (schatten * schatten * schatten);
  const double h00 = n * (1 + slack), h11 = s2 * (1 + slack), h22 = 1 + slack;
  // The adjugate of H, whose rows are (h00, s1, s2), (s1, h11, s3), (s2, s3, h22).
  const double a00 = h11 * h22 - s3 * s3, a01 = s2 * s3 - s1 * h22, a02 = s1 * s3 - s2 * h11, a11 = h00 * h22 - s2 * s2,
               a12 = s1 * s2 - h00 * s3, a22 = h00 * h11 - s1 * s1;
  const double det = h00 * a00 + s1 * a01 + s2 * a02;
  if (!(det > 0)) return schatten;
  const double excess[] = {a00 / det - 1, 2 * a01 / det, (2 * a02 + a11) / det, 2 * a12 / det, a22 / det};
  if (!(device_bound::evaluate<4>(excess, 1) > 0)) return schatten;
  const double derivative[] = {excess[1], 2 * excess[2], 3 * excess[3], 4 * excess[4]};
  double pieces[5], largest = 1;
  device_bound::split<3>(derivative, pieces);
  for (int i = 0; i < 4; ++i) largest = device_bound::change_between<4>(excess, pieces[i], pieces[i + 1], largest);
  return schatten * largest;
}

}  // namespace muonp::optim::spectral
