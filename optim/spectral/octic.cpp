#include "optim/spectral/octic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "optim/spectral/polynomial.h"

namespace muonp::optim::spectral {
namespace {

// What rounding of the stored matrices does to w, in units of one rounding of w's largest value: every
// product passes on the rounding of each factor times the size of the other.
double rounding(const Octic& o, double low, double high) {
  constexpr int kSamples = 200;
  double q = 0, left = 0, right = 0, whole = 0;
  for (int i = 0; i <= kSamples; ++i) {
    const double x = (low + (high - low) * i / kSamples - o.center) / o.radius, y = x * x;
    const double v = y * (o.c4 * y + o.c3 * x), l = v + o.d2 * y + o.d1 * x, r = v + o.e2 * y;
    q = std::max(q, std::abs(o.c4 * y + o.c3 * x));
    left = std::max(left, std::abs(l));
    right = std::max(right, std::abs(r));
    whole = std::max(whole, std::abs(l * r + o.e0 * v + o.f2 * y + o.f1 * x + o.f0));
  }
  const double of_v = q + std::abs(o.c4) + std::abs(o.c3);
  const double of_left = of_v + std::abs(o.d2) + std::abs(o.d1) + left, of_right = of_v + std::abs(o.e2) + right;
  const double of_rest = std::abs(o.e0) * of_v + std::abs(o.f2) + std::abs(o.f1) + std::abs(o.f0);
  return (of_left * right + of_right * left + left * right + of_rest) / whole;
}

// Comparing coefficients of x⁸ … x⁰. x³ and x⁴ leave a quadratic equation in e2; `branch` ±1 picks its root.
std::optional<Octic> solve(std::vector<double> b, double center, double radius, int branch) {
  Octic o{.center = center,
          .radius = radius,
          .c4 = 0,
          .c3 = 0,
          .d2 = 0,
          .d1 = 0,
          .e2 = 0,
          .e0 = 0,
          .f2 = 0,
          .f1 = 0,
          .f0 = 0,
          .sign = b[8] < 0 ? -1.0 : 1.0};
  for (double& value : b) value *= o.sign;
  o.c4 = std::sqrt(b[8]);
  o.c3 = b[7] / (2 * o.c4);
  const double sum = (b[6] - o.c3 * o.c3) / o.c4;  // d2 + e2
  o.d1 = (b[5] - o.c3 * sum) / o.c4;
  const double linear = sum - o.c4 * o.d1 / o.c3, constant = o.c3 * o.d1 + o.c4 * b[3] / o.c3 - b[4];
  const double discriminant = linear * linear + 4 * constant;
  if (!(discriminant >= 0)) return std::nullopt;
  o.e2 = (linear + branch * std::sqrt(discriminant)) / 2;
  o.d2 = sum - o.e2;
  o.e0 = (b[3] - o.d1 * o.e2) / o.c3;
  o.f2 = b[2], o.f1 = b[1], o.f0 = b[0];
  return o;
}

}  // namespace

double Octic::operator()(double a) const {
  const double x = (a - center) / radius, y = x * x, v = y * (c4 * y + c3 * x);
  return sign * ((v + d2 * y + d1 * x) * (v + e2 * y) + e0 * v + f2 * y + f1 * x + f0);
}

std::optional<Octic> factor_octic(const std::vector<double>& coefficients, double low, double high) {
  constexpr int kOffsets = 20;
  constexpr double kTolerable = 200;  // roundings
  MUONP_ASSERT(coefficients.size() == 9 && low < high, "{} coefficients on [{}, {}]", coefficients.size(), low, high);
  const double radius = (high - low) / 2;
  std::optional<Octic> best;
  double least = kTolerable;
  for (int i = -kOffsets; i <= kOffsets; ++i) {
    const double center = (low + high) / 2 + 0.02 * i * radius;
    std::vector<double> b = shifted(coefficients, center);
    for (std::size_t k = 0; k < b.size(); ++k) b[k] *= std::pow(radius, static_cast<double>(k));
    for (int branch : {-1, 1}) {
      const std::optional<Octic> candidate = solve(b, center, radius, branch);
      const double cost = candidate ? rounding(*candidate, low, high) : std::numeric_limits<double>::infinity();
      if (!(cost < least)) continue;
      least = cost;
      best = candidate;
    }
  }
  return best;
}

}  // namespace muonp::optim::spectral
