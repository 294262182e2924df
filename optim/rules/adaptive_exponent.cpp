#include "optim/rules/adaptive_exponent.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/index.h"

namespace muonp::optim {

using spectral::Exponent;

// With λ = 1 + β + 2√β·cos θ the law's density becomes (2/π)·sin²θ/λ over θ from 0 to π, smooth but for β = 1 at θ = π,
// where it is bounded. Simpson's rule from the small eigenvalues up, to where half of the mass is.
double marchenko_pastur_median(double ratio) {
  constexpr int kPieces = 2048;
  constexpr double kPi = std::numbers::pi, kWidth = kPi / kPieces;
  const auto eigenvalue = [&](double theta) { return 1 + ratio + 2 * std::sqrt(ratio) * std::cos(theta); };
  const auto density = [&](double theta) {
    const double sine = std::sin(theta), value = eigenvalue(theta);
    return value <= 1e-12 ? 2 / kPi : 2 / kPi * sine * sine / value;  // its limit at β = 1
  };
  double mass = 0;
  for (int i = kPieces; i > 0; --i) {
    const double high = i * kWidth, low = high - kWidth;
    const double more = kWidth / 6 * (density(high) + 4 * density((high + low) / 2) + density(low));
    if (mass + more >= 0.5) return eigenvalue(high - kWidth * (0.5 - mass) / more);
    mass += more;
  }
  return eigenvalue(0);
}

double noise_variance(std::span<const double> sigma, std::int64_t rows, std::int64_t cols) {
  if (sigma.empty()) return 0;
  const double long_side = static_cast<double>(std::max(rows, cols)), short_side = static_cast<double>(std::min(rows, cols));
  const double median = (sigma[(sigma.size() - 1) / 2] + sigma[sigma.size() / 2]) / 2;
  return median * median / (long_side * marchenko_pastur_median(short_side / long_side));
}

std::vector<double> signal_of(std::span<const double> sigma, double variance, std::int64_t rows, std::int64_t cols) {
  const auto m = static_cast<double>(rows), n = static_cast<double>(cols);
  std::vector<double> signal;
  for (const double s : sigma) {
    const double middle = s * s - variance * (m + n), width = 2 * variance * std::sqrt(m * n);
    signal.push_back(middle > width ? std::sqrt(middle * middle - width * width) / s : 0.0);
  }
  return signal;
}

namespace {

double decrease(std::span<const double> sigma, std::span<const double> signal, double p, double curvature) {
  double gained = 0, spent = 0;
  for (std::size_t i = 0; i < sigma.size(); ++i) {
    gained += signal[i] * std::pow(sigma[i], p);
    spent += std::pow(sigma[i], curvature + 2 * p);
  }
  return gained * gained / spent;
}

}  // namespace

Exponent best_exponent(std::span<const double> sigma, std::int64_t rows, std::int64_t cols,
                       std::span<const Exponent> candidates, double curvature) {
  const double largest = sigma.empty() ? 0 : sigma.front();
  const double least = static_cast<double>(std::max(rows, cols)) * 0x1p-24;
  std::vector<double> all, counted;  // of the largest, so that no power leaves the range
  for (const double s : sigma) all.push_back(largest > 0 ? s / largest : 0.0);
  for (const double s : all)
    if (s > least) counted.push_back(s);
  const std::vector<double> signal = signal_of(counted, noise_variance(all, rows, cols), rows, cols);
  if (std::ranges::all_of(signal, [](double s) { return s == 0; }))
    return std::ranges::max(candidates, {}, &Exponent::value);
  Exponent best = candidates.front();
  double most = -1;
  for (const Exponent p : candidates)
    if (const double gain = decrease(counted, signal, p.value(), curvature); gain > most * (1 + 1e-9)) {
      best = p;
      most = gain;
    }
  return best;
}

Exponent nearest_of(std::span<const Exponent> candidates, double p) {
  return *std::ranges::min_element(candidates, {}, [p](Exponent candidate) { return std::abs(candidate.value() - p); });
}

}  // namespace muonp::optim
