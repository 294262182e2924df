#include "optim/spectral/bound.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "optim/spectral/polynomial.h"

namespace muonp::optim::spectral {
namespace {

using Matrix3 = std::array<std::array<double, 3>, 3>;

// Adjugate of a symmetric 3×3 matrix: H·adj(H) = det(H)·I.
Matrix3 adjugate(const Matrix3& h) {
  Matrix3 adjoint;
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) {
      const std::size_t a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
      adjoint[j][i] = h[a][c] * h[b][d] - h[a][d] * h[b][c];
    }
  return adjoint;
}

}  // namespace

double eigenvalue_bound(std::int64_t n, const std::array<double, 4>& moments) {
  const double schatten = std::pow(moments[3], 0.25);
  MUONP_ASSERT(n >= 1 && std::isfinite(schatten) && schatten > 0, "n {}, tr A⁴ {}", n, moments[3]);
  // In units of the Schatten bound: x in [0, 1]; rows scaled by √n so that the entries of H are of one size.
  std::array<double, 5> s = {static_cast<double>(n), 0, 0, 0, 1};
  for (std::size_t k = 1; k < 4; ++k) s[k] = moments[k - 1] / std::pow(schatten, static_cast<double>(k));
  Matrix3 h;
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) h[i][j] = s[i + j] * (i == j ? 1 + kMomentSlack : 1);
  const Matrix3 adjoint = adjugate(h);
  const double det = h[0][0] * adjoint[0][0] + h[0][1] * adjoint[1][0] + h[0][2] * adjoint[2][0];
  if (!(det > 0)) return schatten;
  // v·adj·v − det as a polynomial in x, v = (1, x, x²).
  std::vector<long double> excess(5, 0);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) excess[i + j] += static_cast<long double>(adjoint[i][j]) / det;
  excess[0] -= 1;
  if (evaluate(excess, 1.0L) <= 0) return schatten;
  const std::vector<long double> roots = roots_between(excess, 0, 1);
  return roots.empty() ? schatten : schatten * static_cast<double>(roots.back());
}

}  // namespace muonp::optim::spectral
