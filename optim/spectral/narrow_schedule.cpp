#include "optim/spectral/narrow_schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>

#include "core/base/error.h"
#include "core/base/remember.h"

namespace muonp::optim::spectral {
namespace {

constexpr int kMaxSteps = 8;
constexpr double kCushion = 0.01;  // rounding may leave an eigenvalue outside of the interval of its step
constexpr double kPolarShare = 1.5, kAboveLeast = 1.25;
constexpr int kMoreHalves = 4;  // products of the small side beyond the fewest that reach the tolerance

double limit_of(Exponent p, double tolerance) { return p.numerator == 0 ? kPolarShare * tolerance : tolerance; }

NarrowPlan plan_of(const Design& design, int rebuilds, bool keep_t) {
  NarrowPlan plan{design.steps, {}, keep_t};
  for (int k = 1; k <= rebuilds; ++k) plan.rebuilds.push_back(k);
  return plan;
}

// All sequences of degrees whose design reaches `limit`, none of which goes on after it has, and none that costs far more
// than the cheapest.
class Sequences {
 public:
  Sequences(Exponent p, double epsilon, double limit) : p_(p), epsilon_(epsilon), limit_(limit) { extend({}, 0); }
  std::vector<std::vector<int>> found() const {
    std::vector<std::vector<int>> all;
    for (const auto& [degrees, halves] : found_)
      if (halves <= fewest_ + kMoreHalves) all.push_back(degrees);
    return all;
  }

 private:
  void extend(std::vector<int> degrees, int halves) {
    if (core::to_int(degrees.size()) == kMaxSteps) return;
    for (const auto [degree, products] : {std::pair(8, 3), {4, 2}, {2, 1}}) {
      if (halves + products > fewest_ + kMoreHalves) continue;
      degrees.push_back(degree);
      const double error = cached_design(p_, epsilon_, degrees, kCushion, kCushion)->error;
      if (error <= limit_) {
        found_.emplace_back(degrees, halves + products);
        fewest_ = std::min(fewest_, halves + products);
      } else if (std::isfinite(error)) {
        extend(degrees, halves + products + 2);  // at the least, W is squared and meets A or T
      }
      degrees.pop_back();
    }
  }

  Exponent p_;
  double epsilon_, limit_;
  std::vector<std::pair<std::vector<int>, int>> found_;
  int fewest_ = 1 << 20;
};

using Candidates = std::vector<std::shared_ptr<const NarrowSchedule>>;

Candidates find_candidates(Exponent p, double epsilon, double tolerance, core::Dtype dtype) {
  const double from = epsilon / kNarrowBoundSlack;
  Candidates all;
  for (const std::vector<int>& degrees : Sequences(p, from, limit_of(p, tolerance)).found()) {
    const auto design = cached_design(p, from, degrees, kCushion, kCushion);
    for (int rebuilds = 0; rebuilds < core::to_int(degrees.size()); ++rebuilds)
      for (const bool keep_t : {false, true}) {
        if (keep_t && (rebuilds == 0 || p.numerator == 0)) continue;  // the same as without
        NarrowPlan plan = plan_of(*design, rebuilds, keep_t);
        NarrowForecast of_plan = forecast(p, plan, epsilon, design->error, dtype);
        all.push_back(std::make_shared<NarrowSchedule>(NarrowSchedule{degrees, std::move(plan), std::move(of_plan)}));
      }
  }
  if (all.empty())
    core::fail(
        "a spectral power p = {} within a relative error of {} for singular values from {} on takes more than {} steps in "
        "{}; larger values of tolerance and epsilon are valid",
        to_string(p), tolerance, epsilon, kMaxSteps, name_of(dtype));
  return all;
}

// Remembered: they are the same for every shape.
std::shared_ptr<const Candidates> candidates_of(Exponent p, double epsilon, double tolerance, core::Dtype dtype) {
  using Key = std::tuple<int, int, double, double, core::Dtype>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<const Candidates>> known;
  std::lock_guard lock(mutex);
  return core::remember(known, Key{p.numerator, p.denominator, epsilon, tolerance, dtype},
                        [&] { return std::make_shared<const Candidates>(find_candidates(p, epsilon, tolerance, dtype)); });
}

}  // namespace

std::shared_ptr<const NarrowSchedule> choose_narrow_schedule(Exponent p, double epsilon, double tolerance, core::Dtype dtype,
                                                             std::int64_t rows, std::int64_t cols) {
  const auto candidates = candidates_of(p, epsilon, tolerance, dtype);
  double least = std::numeric_limits<double>::infinity();
  for (const auto& s : *candidates) least = std::min(least, s->forecast.error(rows, cols));
  if (std::isinf(least))
    core::fail(
        "a spectral power p = {} for singular values from {} on leaves the range of {}; bfloat16, tf32 and float32 are "
        "valid, and larger values of epsilon",
        to_string(p), epsilon, name_of(dtype));
  const double allowed = std::max(limit_of(p, tolerance), kAboveLeast * least);
  const auto rank = [&](const NarrowSchedule& s) {
    const double error = s.forecast.error(rows, cols);
    return std::tuple(error > allowed, s.forecast.cost.products(rows, cols), error);
  };
  return *std::ranges::min_element(*candidates, [&](const auto& a, const auto& b) { return rank(*a) < rank(*b); });
}

}  // namespace muonp::optim::spectral
