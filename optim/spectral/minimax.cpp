#include "optim/spectral/minimax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/remember.h"
#include "optim/spectral/polynomial.h"

namespace muonp::optim::spectral {
namespace {

using Real = long double;

// Everything below is in x = a/high, so that the interval is [low/high, 1].
class Exchange {
 public:
  Exchange(int root, Real low, int degree) : power_(Real(1) / root), low_(low), degree_(degree) {}

  // Returns the largest deviation; coefficients() then are those of the minimax polynomial.
  Real run() {
    start();
    for (int round = 0; round < kRounds; ++round) {
      solve();
      const std::vector<Real> points = extrema();
      const Real worst = *std::max_element(
          points.begin(), points.end(), [this](Real x, Real y) { return std::abs(deviation(x)) < std::abs(deviation(y)); });
      const Real largest = std::abs(deviation(worst));
      if (largest - std::abs(level_) <= kRelative * largest + kFloor) return largest;
      if (alternates(points))
        reference_ = points;
      else
        exchange_one(worst);
    }
    MUONP_ASSERT(false, "no convergence: degree {} on [{}, 1]", degree_, static_cast<double>(low_));
  }

  const std::vector<Real>& coefficients() const { return coefficients_; }

 private:
  static constexpr int kRounds = 200;
  static constexpr Real kRelative = 1e-10L;
  static constexpr Real kFloor = 1e-13L;  // below what float32 or float64 products can resolve

  Real deviation(Real x) const { return 1 - std::pow(x, power_) * evaluate(coefficients_, x); }

  // At power 1/2 the deviation is an odd polynomial in √x, whose extrema lie near Chebyshev's points in √x;
  // other powers are close enough to start there.
  void start() {
    const int count = degree_ + 2;
    const Real left = std::sqrt(low_);
    reference_.resize(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      const Real t = (1 - std::cos(std::acos(Real(-1)) * i / (count - 1))) / 2, root = left + (1 - left) * t;
      reference_[core::at(i)] = root * root;
    }
    reference_.front() = low_;
    reference_.back() = 1;
  }

  // coefficients and level with x^power·w(x) + (−1)^i·level = 1 on the reference points: Gauss with pivoting.
  void solve() {
    const std::size_t n = reference_.size();
    std::vector<std::vector<Real>> rows(n, std::vector<Real>(n + 1));
    for (std::size_t i = 0; i < n; ++i) {
      Real term = std::pow(reference_[i], power_);
      for (std::size_t k = 0; k + 1 < n; ++k, term *= reference_[i]) rows[i][k] = term;
      rows[i][n - 1] = i % 2 == 0 ? 1 : -1;
      rows[i][n] = 1;
    }
    for (std::size_t k = 0; k < n; ++k) {
      const auto pivot = std::max_element(rows.begin() + static_cast<std::ptrdiff_t>(k), rows.end(),
                                          [k](auto& a, auto& b) { return std::abs(a[k]) < std::abs(b[k]); });
      std::swap(rows[k], *pivot);
      for (std::size_t i = 0; i < n; ++i) {
        if (i == k) continue;
        const Real factor = rows[i][k] / rows[k][k];
        for (std::size_t j = k; j <= n; ++j) rows[i][j] -= factor * rows[k][j];
      }
    }
    coefficients_.assign(n - 1, 0);
    for (std::size_t k = 0; k + 1 < n; ++k) coefficients_[k] = rows[k][n] / rows[k][k];
    level_ = rows[n - 1][n] / rows[n - 1][n - 1];
  }

  bool alternates(const std::vector<Real>& points) const {
    if (points.size() != reference_.size()) return false;
    for (std::size_t i = 0; i + 1 < points.size(); ++i)
      if ((deviation(points[i]) < 0) == (deviation(points[i + 1]) < 0)) return false;
    return true;
  }

  // Far from the solution not all extrema are there. Taking in the worst point for a neighbour of its sign
  // keeps the signs alternating and always raises the level.
  void exchange_one(Real worst) {
    const auto same_sign = [&](Real x) { return (deviation(x) < 0) == (deviation(worst) < 0); };
    const auto right = std::lower_bound(reference_.begin(), reference_.end(), worst);
    if (right == reference_.begin()) {
      if (!same_sign(*right)) std::rotate(reference_.begin(), reference_.end() - 1, reference_.end());
      reference_.front() = worst;
    } else if (right == reference_.end()) {
      if (!same_sign(reference_.back())) std::rotate(reference_.begin(), reference_.begin() + 1, reference_.end());
      reference_.back() = worst;
    } else {
      *(same_sign(*right) ? right : right - 1) = worst;
    }
  }

  // The deviation's derivative is x^(power−1) times a polynomial of the same degree, Σ (power + k)·c_k·xᵏ, so
  // its interior extrema are that polynomial's roots; with the two ends they are at most degree + 2 points.
  std::vector<Real> extrema() const {
    std::vector<Real> slope = coefficients_;
    for (std::size_t k = 0; k < slope.size(); ++k) slope[k] *= power_ + static_cast<Real>(k);
    std::vector<Real> points = roots_between(slope, low_, 1);
    points.insert(points.begin(), low_);
    points.push_back(1);
    return points;
  }

  Real power_, low_;
  int degree_;
  std::vector<Real> reference_, coefficients_;
  Real level_ = 0;
};

constexpr double kExactEnough = 1e-9;
constexpr double kNarrow = 4;  // wider intervals need every degree they are given

}  // namespace

MinimaxWeight minimax_weight(int root, double low, double high, int degree) {
  MUONP_ASSERT(root >= 1 && low > 0 && low < high && degree >= 0 && degree <= 8, "root {}, [{}, {}], degree {}", root, low,
               high, degree);
  // On a narrow interval a low degree is already as exact as the products can be; higher ones would only add
  // large cancelling coefficients.
  MinimaxWeight weight;
  std::vector<Real> scaled;
  for (int d = high < kNarrow * low ? std::min(degree, 1) : degree;; ++d) {
    Exchange exchange(root, Real(low) / high, d);
    weight.error = static_cast<double>(exchange.run());
    scaled = exchange.coefficients();
    if (d == degree || weight.error < kExactEnough) break;
  }
  scaled.resize(static_cast<std::size_t>(degree) + 1, 0);
  // From x = a/high with |1 − x^(1/root)·w| to a: a^(1/root) = high^(1/root)·x^(1/root).
  Real scale = std::pow(Real(high), Real(-1) / root);
  for (Real c : scaled) {
    weight.coefficients.push_back(static_cast<double>(c * scale));
    scale /= high;
  }
  return weight;
}

namespace {

struct Widening {
  double first_cushion, cushion;
};

// `design` with one more step, on the interval that its last one leaves.
Design with_step(Exponent p, double epsilon, Design design, int degree, Widening widening) {
  const int root = 2 * p.h();
  double low = epsilon * epsilon, high = 1 + widening.first_cushion;
  if (!design.steps.empty()) {
    const double error = design.steps.back().weight.error;
    low = std::pow(1 - error, root) * (1 - widening.cushion);
    high = std::pow(1 + error, root) * (1 + widening.cushion);
  }
  DesignStep step{low, high, minimax_weight(root, low, high, degree), std::nullopt};
  if (degree == 8) step.octic = factor_octic(step.weight.coefficients, low, high);
  if (degree == 8 && !step.octic) {
    design.error = std::numeric_limits<double>::infinity();
    return design;
  }
  const double error = step.weight.error;
  MUONP_ASSERT(error < 1, "a minimax error of {}", error);  // w = 0 has error 1
  design.error = std::max(std::pow(1 + error, p.m()) - 1, 1 - std::pow(1 - error, p.m()));
  design.steps.push_back(std::move(step));
  return design;
}

}  // namespace

Design design_steps(Exponent p, double epsilon, const std::vector<int>& degrees, double first_cushion, double cushion) {
  MUONP_ASSERT(epsilon > 0 && epsilon < 1 && first_cushion >= 0 && cushion >= 0 && cushion < 1, "ε {}, cushions {}, {}",
               epsilon, first_cushion, cushion);
  Design design;
  for (int degree : degrees) {
    design = with_step(p, epsilon, std::move(design), degree, {first_cushion, cushion});
    if (std::isinf(design.error)) break;
  }
  return design;
}

// A search tries many sequences with a common beginning, whose steps are designed once.
std::shared_ptr<const Design> cached_design(Exponent p, double epsilon, const std::vector<int>& degrees,
                                            double first_cushion, double cushion) {
  using Key = std::tuple<int, int, double, std::vector<int>, double, double>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<const Design>> designs;
  if (degrees.empty()) return std::make_shared<const Design>(design_steps(p, epsilon, {}, first_cushion, cushion));
  const std::vector<int> beginning(degrees.begin(), degrees.end() - 1);
  const std::shared_ptr<const Design> known = cached_design(p, epsilon, beginning, first_cushion, cushion);
  const Key key{p.numerator, p.denominator, epsilon, degrees, first_cushion, cushion};
  std::lock_guard lock(mutex);
  return core::remember(designs, key, [&] {
    if (std::isinf(known->error)) return known;
    return std::make_shared<const Design>(with_step(p, epsilon, *known, degrees.back(), {first_cushion, cushion}));
  });
}

}  // namespace muonp::optim::spectral
