// p: adaptive of the rule muonp in double precision, written to be read beside docs/optimizers.md.
#pragma once

#include <algorithm>
#include <numbers>

#include "tests/reference/rules.h"

namespace muonp::reference {

// The eigenvalue that half of the mass of the Marchenko-Pastur law is below: density √((b − λ)(λ − a))/(2πβλ) on [a, b].
inline double marchenko_pastur_median(double beta) {
  const double a = std::pow(1 - std::sqrt(beta), 2), b = std::pow(1 + std::sqrt(beta), 2);
  constexpr int kPieces = 400000;
  double mass = 0;
  for (int i = 0; i < kPieces; ++i) {  // λ = a + (b − a)x², so that the density has no edge at a
    const double x = (i + 0.5) / kPieces, value = a + (b - a) * x * x;
    mass += std::sqrt((b - value) * (value - a)) / (2 * std::numbers::pi * beta * value) * 2 * (b - a) * x / kPieces;
    if (mass >= 0.5) return value;
  }
  return b;
}

// (Σ s σ^p)²/Σ σ^(c + 2p), with s what the noise leaves of σ
inline double certain_decrease(const Doubles& sigma, std::int64_t m, std::int64_t n, double p, double curvature) {
  const double k = static_cast<double>(std::max(m, n)), r = static_cast<double>(std::min(m, n));
  const std::size_t half = sigma.size() / 2;
  const double median = sigma.size() % 2 == 1 ? sigma[half] : (sigma[half - 1] + sigma[half]) / 2;
  const double v = median * median / (k * marchenko_pastur_median(r / k)),
               edge = std::sqrt(v) * (std::sqrt(k) + std::sqrt(r));
  double gained = 0, spent = 0;
  for (const double x : sigma) {
    if (x <= k * 0x1p-24 * sigma[0]) continue;
    if (x > edge) gained += std::sqrt(std::pow(x * x - v * (k + r), 2) - 4 * v * v * k * r) / x * std::pow(x, p);
    spent += std::pow(x, curvature + 2 * p);
  }
  return spent > 0 ? gained * gained / spent : 0;
}

inline double best_exponent(const Doubles& sigma, std::int64_t m, std::int64_t n, const Doubles& candidates,
                            double curvature) {
  double best = *std::ranges::max_element(candidates), most = 0;
  for (const double p : candidates)
    if (const double d = certain_decrease(sigma, m, n, p, curvature); d > most * (1 + 1e-9)) {
      best = p;
      most = d;
    }
  return best;
}

inline void adaptive_muonp(Parameter& w, const Doubles& g, const Step& s, double mu, const Doubles& candidates, int every,
                           double smoothing, double curvature) {
  const Doubles n = momentum(w, g, mu, true, true);
  double &p = w.state("p", 1)[0], &smoothed = w.state("p_smoothed", 1)[0];
  if ((s.t - 1) % every == 0) {
    const double best = best_exponent(optim::oracle::svd(n, w.rows, w.cols).s, w.rows, w.cols, candidates, curvature);
    smoothed = s.t == 1 ? best : smoothing * smoothed + (1 - smoothing) * best;
    p = *std::ranges::min_element(candidates, {}, [&](double c) { return std::fabs(c - smoothed); });
  }
  move_by_power(w, n, s, p);
}

}  // namespace muonp::reference
