// A polynomial of degree 8 evaluated with three products of polynomials instead of the seven of Horner's
// rule, after Sastre, "Efficient evaluation of matrix polynomials", Linear Algebra Appl. 539 (2018).
#pragma once

#include <optional>
#include <vector>

namespace muonp::optim::spectral {

// In x = (a − center)/radius:
//   y = x·x    v = y·(c4·y + c3·x)    w(a) = sign·((v + d2·y + d1·x)·(v + e2·y) + e0·v + f2·y + f1·x + f0)
struct Octic {
  double center = 0, radius = 1;
  double c4, c3, d2, d1, e2, e0, f2, f1, f0, sign;

  double operator()(double a) const;
};

// The nine numbers that reproduce `coefficients` (ascending, nine of them) on [low, high]. They solve a
// quadratic equation that has real roots for most centers; the center near the middle of the interval is
// taken that keeps the intermediate values, and with them the rounding of the products, smallest. Nothing
// where there is none.
std::optional<Octic> factor_octic(const std::vector<double>& coefficients, double low, double high);

}  // namespace muonp::optim::spectral
