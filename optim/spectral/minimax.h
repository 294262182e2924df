// Design of the step polynomials of the coupled recurrence (docs/numerics.md): the polynomial w of a given
// degree for which |1 − a^(1/root)·w(a)| is smallest over an interval of eigenvalues a of the Gram matrix.
// Double precision.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "optim/spectral/exponent.h"
#include "optim/spectral/octic.h"

namespace muonp::optim::spectral {

struct MinimaxWeight {
  std::vector<double> coefficients;  // ascending: w(a) = Σ coefficients[k]·aᵏ
  double error = 0;                  // E = max |1 − a^(1/root)·w(a)| on the interval; below 1
};

// Remez exchange on degree + 2 points. 0 < low < high, root ≥ 1, 0 ≤ degree ≤ 8. The error equals its
// supremum to a relative 1e-9. Thread-safe.
MinimaxWeight minimax_weight(int root, double low, double high, int degree);

struct DesignStep {
  double low = 0, high = 0;  // eigenvalues of the Gram matrix that the step is designed for
  MinimaxWeight weight;
  std::optional<Octic> octic;  // the same polynomial for three products; of degree 8 only
};

struct Design {
  std::vector<DesignStep> steps;
  double error = 0;  // bound on the relative error of σᵖ for σ in [ε, 1], in exact arithmetic
};

// The steps of U Sᵖ Vᵀ for p = (h − m)/h on singular values in [epsilon, 1], each degree on the interval that
// the step before leaves: [(1 − E)²ʰ, (1 + E)²ʰ]. The first interval is widened upwards by first_cushion,
// later ones by cushion on both sides, for rounding. Where a step of degree 8 has no Octic, the design ends
// there with an infinite error.
Design design_steps(Exponent p, double epsilon, const std::vector<int>& degrees, double first_cushion, double cushion);

// design_steps(), remembered for the life of the process. Thread-safe.
std::shared_ptr<const Design> cached_design(Exponent p, double epsilon, const std::vector<int>& degrees,
                                            double first_cushion, double cushion);

}  // namespace muonp::optim::spectral
