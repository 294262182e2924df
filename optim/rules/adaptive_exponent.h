// p for one matrix from its spectrum: a criterion of this project's own, which docs/optimizers.md derives. It takes the
// measured matrix N [m, n] as a signal G and noise of independent elements of variance v, k = max(m, n), r = min(m, n):
//
//   v = median(σ)²/(k·μ)                        μ: the median of the Marchenko-Pastur law of r/k (Gavish and Donoho, arXiv
//                                               1305.5870); more than half of the spectrum is taken to be noise
//   s_i = √((σ_i² − v(k + r))² − 4v²kr)/σ_i     what ⟨G, u_i v_iᵀ⟩ tends to; 0 up to the edge √v(√k + √r) of the noise
//   p = argmax (Σ s_i σ_i^p)²/Σ σ_i^(c + 2p)    the decrease that is certain of the best step along N's power, with a
//   curvature
//                                               along u_i v_iᵀ that grows as σ_i^c
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "optim/spectral/exponent.h"

namespace muonp::optim {

struct AdaptiveSettings {
  std::vector<spectral::Exponent> candidates;
  std::int64_t every = 50;  // steps between choices; the first step is one
  double smoothing = 0.5;   // share of the last smoothed exponent in the next one
  double curvature = 1;     // c
  bool chooses(std::int64_t step) const { return (step - 1) % every == 0; }
};

// The median of the Marchenko-Pastur law of ratio in (0, 1]: of the eigenvalues of a Gram matrix of k rows, over k, whose
// elements have variance 1. To 1e-6.
double marchenko_pastur_median(double ratio);

// Of an [m, n] matrix with these singular values, descending.
double noise_variance(std::span<const double> sigma, std::int64_t rows, std::int64_t cols);

// s_i of a noise of this variance.
std::vector<double> signal_of(std::span<const double> sigma, double variance, std::int64_t rows, std::int64_t cols);

// The candidate with the largest decrease; of equal ones (to 1e-9) the first. Singular values that float32 cannot tell from
// zero, below max(m, n)·2⁻²⁴ of the largest, do not count. Without a signal, where no power is better than another, the
// largest candidate, to which p tends as the noise grows.
spectral::Exponent best_exponent(std::span<const double> sigma, std::int64_t rows, std::int64_t cols,
                                 std::span<const spectral::Exponent> candidates, double curvature);

// The candidate next to p; of two at one distance the first.
spectral::Exponent nearest_of(std::span<const spectral::Exponent> candidates, double p);

}  // namespace muonp::optim
