#include "optim/spectral/schedule.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "core/base/remember.h"
#include "core/device/symmetric.h"

namespace muonp::optim::spectral {
namespace {

constexpr double kDesignShare = 0.9;  // of the tolerance; the rest is for rounding
constexpr double kFirstCushion = 0.01;

struct Rules {
  std::vector<int> degrees;  // that may be used
  int max_steps;
};

// Higher degrees have larger cancelling coefficients than T can carry at p < 0, where it spans many orders of magnitude.
// Degree 8 first: its schedules are the cheapest and bound the search.
Rules rules_of(Exponent p) {
  if (p.numerator < 0) return {{4, 2}, 7};
  return {{8, 4, 2}, 6};
}

int bits(int value) { return std::popcount(static_cast<unsigned>(value)); }
int top_bit(int value) { return std::bit_width(static_cast<unsigned>(value)) - 1; }
int polynomial_products(int degree) { return degree == 8 ? 3 : degree == 4 ? 2 : 1; }
// Products between two steps: powers of W, onto A and onto T.
int update_products(Exponent p) { return std::max(top_bit(p.m()), top_bit(2 * p.h())) + bits(p.h()) + bits(p.m()); }

// Depth-first search for the sequence of degrees with the fewest products that reaches the tolerance; among
// equals the most accurate. Products on the long side do not depend on the degrees, so one sequence serves
// every shape.
class DegreeSearch {
 public:
  DegreeSearch(Exponent p, double epsilon, double tolerance, Rules rules)
      : p_(p), epsilon_(epsilon), tolerance_(tolerance), rules_(std::move(rules)) {
    extend({}, 0);
  }
  const std::vector<int>& best() const { return best_; }  // empty where there is none

 private:
  void extend(std::vector<int> degrees, int products) {
    if (core::to_int(degrees.size()) == rules_.max_steps) return;
    for (int degree : rules_.degrees) {
      const int cost = products + polynomial_products(degree);
      if (cost > fewest_) continue;
      degrees.push_back(degree);
      const double error = cached_design(p_, epsilon_, degrees, kFirstCushion, 0)->error;
      if (error > tolerance_ && std::isfinite(error)) extend(degrees, cost + update_products(p_));
      if (error <= tolerance_ && (cost < fewest_ || error < least_error_)) {
        best_ = degrees;
        fewest_ = cost;
        least_error_ = error;
      }
      degrees.pop_back();
    }
  }

  Exponent p_;
  double epsilon_, tolerance_;
  Rules rules_;
  std::vector<int> best_;
  int fewest_ = std::numeric_limits<int>::max();
  double least_error_ = std::numeric_limits<double>::infinity();
};

// Remembered: the search takes some tens of milliseconds.
std::vector<int> best_degrees(Exponent p, double epsilon, double tolerance) {
  using Key = std::tuple<int, int, double, double>;
  static std::mutex mutex;
  static std::map<Key, std::vector<int>> known;
  std::lock_guard lock(mutex);
  return core::remember(known, Key{p.numerator, p.denominator, epsilon, tolerance},
                        [&] { return DegreeSearch(p, epsilon, tolerance, rules_of(p)).best(); });
}

// The Gram matrix loses small eigenvalues to rounding; rebuilding it from an iterate whose spectrum is
// flatter brings them back. float32 needs one rebuild, two for p < 1/4 and every one for p < 0, which raise
// small singular values the most; a second one is also taken where the second step still works on a wide
// interval and the rebuild costs little, as it does for square matrices (docs/numerics.md has the errors).
constexpr double kWideSpan = 1e4, kNearlyFree = 1.05;

int restarts_of(Schedule s, Exponent p, std::int64_t rows, std::int64_t cols) {
  const int most = core::to_int(s.degrees.size()) - 1;
  if (p.numerator < 0) return most;
  if (4 * p.numerator < p.denominator || most < 2) return std::min(most, 2);
  const DesignStep& second = s.design->steps[1];
  s.restarts = 1;
  const double once = schedule_flops(s, p, rows, cols);
  s.restarts = 2;
  const bool wanted = second.high > kWideSpan * second.low;
  return wanted && schedule_flops(s, p, rows, cols) <= kNearlyFree * once ? 2 : 1;
}

// What products cost.
struct Costs {
  double half, full, gram, of_long;
};

double total_cost(const ProductCount& count, const Costs& costs) {
  return count.halves * costs.half + count.full * costs.full + count.grams * costs.gram + count.longs * costs.of_long;
}

}  // namespace

ProductCount schedule_count(const Schedule& schedule, Exponent p) {
  const int h = p.h(), m = p.m(), steps = core::to_int(schedule.degrees.size());
  const bool same = h == m;  // Y and Z are one matrix
  ProductCount count{.grams = 1, .longs = 1};
  bool gathered = false;  // T holds a product already
  for (int i = 0; i < steps; ++i) {
    const bool last = i + 1 == steps, restart = i < schedule.restarts && !last;
    int halves = polynomial_products(schedule.degrees[core::at(i)]);
    const int update = last ? 0 : restart ? h : 2 * h;
    halves += std::max(top_bit(m), update ? top_bit(update) : 0);  // squarings of W
    halves += bits(m) - 1;                                         // Wᵐ
    if (gathered && is_averaged(schedule.averaging, last))
      ++count.full;
    else if (gathered)
      ++halves;                                    // T·Wᵐ
    if (restart && !same) halves += bits(h) - 1;   // Wʰ
    if (!last && !restart) halves += bits(2 * h);  // onto A
    count.halves += halves;
    gathered = !(restart && same);
    count.longs += restart;
    count.grams += restart;
  }
  return count;
}

double schedule_flops(const Schedule& schedule, Exponent p, std::int64_t rows, std::int64_t cols) {
  const std::int64_t n = std::min(rows, cols), k = std::max(rows, cols);
  return total_cost(schedule_count(schedule, p), {.half = core::symmetric_flops(n, n),
                                                  .full = core::gemm_flops(n, n, n),
                                                  .gram = core::symmetric_flops(n, k),
                                                  .of_long = core::gemm_flops(n, n, k)});
}

double schedule_products(const Schedule& schedule, Exponent p, std::int64_t rows, std::int64_t cols) {
  const double aspect = static_cast<double>(std::max(rows, cols)) / static_cast<double>(std::min(rows, cols));
  return total_cost(schedule_count(schedule, p), {.half = 0.5, .full = 1, .gram = 0.5 * aspect, .of_long = aspect});
}

Schedule choose_schedule(Exponent p, double epsilon, double tolerance, std::int64_t rows, std::int64_t cols) {
  const double from = epsilon / kBoundSlack;
  Schedule s;
  s.degrees = best_degrees(p, from, kDesignShare * tolerance);
  if (s.degrees.empty())
    core::fail(
        "a spectral power p = {} within a relative error of {} for singular values from {} on takes more than {} steps in "
        "float32; larger values of tolerance and epsilon are valid",
        to_string(p), tolerance, epsilon, rules_of(p).max_steps);
  s.design = cached_design(p, from, s.degrees, kFirstCushion, 0);
  if (3 * p.numerator <= p.denominator && p.numerator != 0) s.averaging = p.numerator < 0 ? Averaging::all : Averaging::last;
  s.restarts = restarts_of(s, p, rows, cols);
  return s;
}

}  // namespace muonp::optim::spectral
