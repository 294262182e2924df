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

// `cushion`: rounding may leave an eigenvalue outside of the interval of its step. `spared`: steps after which A need not be
// rebuilt, beside the last.
struct Rules {
  std::vector<std::pair<int, int>> degrees;  // that may be used, and the products of each
  double cushion;
  int max_steps, spared;
  bool may_keep_t;
};

// The forecast is of first order. Where the second step still works on an interval wider than eleven bits tell apart, that
// is not enough: there only what was seen to hold may be used. Eight bits carry degree 2 alone, and A rebuilt in every step.
constexpr double kSmallEpsilon = 5e-3;

Rules rules_of(core::Dtype dtype, double epsilon) {
  if (dtype == core::Dtype::bfloat16) return {{{2, 1}}, 0.03, 9, 0, false};
  if (epsilon < kSmallEpsilon) return {{{4, 2}, {2, 1}}, 0.01, 8, 1, false};
  return {{{8, 3}, {4, 2}, {2, 1}}, 0.01, 6, 5, true};
}
constexpr double kPolarShare = 1.5, kAboveLeast = 1.25;
// Rounding in all directions together may be this many tolerances: beyond, it moves singular vectors so far that the
// forecast, which is of first order, no longer holds.
constexpr double kNoiseShare = 5;
// Of a schedule's instability. What diverged, in every storage, had 0.6 and more.
constexpr double kMostUnstable = 0.2;
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
  Sequences(Exponent p, double epsilon, double limit, Rules rules)
      : p_(p), epsilon_(epsilon), limit_(limit), rules_(std::move(rules)) {
    extend({}, 0);
  }
  std::vector<std::vector<int>> found() const {
    std::vector<std::vector<int>> all;
    for (const auto& [degrees, halves] : found_)
      if (halves <= fewest_ + kMoreHalves) all.push_back(degrees);
    return all;
  }

 private:
  void extend(std::vector<int> degrees, int halves) {
    if (core::to_int(degrees.size()) == rules_.max_steps) return;
    for (const auto& [degree, products] : rules_.degrees) {
      if (halves + products > fewest_ + kMoreHalves) continue;
      degrees.push_back(degree);
      const double error = cached_design(p_, epsilon_, degrees, rules_.cushion, rules_.cushion)->error;
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
  Rules rules_;
  std::vector<std::pair<std::vector<int>, int>> found_;
  int fewest_ = 1 << 20;
};

// A schedule, of which the forecast is made when it is first asked for.
class Candidate {
 public:
  Candidate(std::vector<int> degrees, NarrowPlan plan, double design_error, const NarrowCost& cost)
      : degrees_(std::move(degrees)), plan_(std::move(plan)), design_error_(design_error), cost_(cost) {}

  const NarrowCost& cost() const { return cost_; }
  std::shared_ptr<const NarrowSchedule> schedule(Exponent p, double epsilon, core::Dtype dtype) {
    if (!schedule_)
      schedule_ = std::make_shared<NarrowSchedule>(
          NarrowSchedule{degrees_, plan_, forecast(p, plan_, epsilon, design_error_, dtype)});
    return schedule_;
  }

 private:
  std::vector<int> degrees_;
  NarrowPlan plan_;
  double design_error_;
  NarrowCost cost_;
  std::shared_ptr<const NarrowSchedule> schedule_;
};

// All that there are to choose from for one exponent and accuracy: the same for every shape.
class Search {
 public:
  Search(Exponent p, double epsilon, double tolerance, core::Dtype dtype)
      : p_(p), epsilon_(epsilon), limit_(limit_of(p, tolerance)), dtype_(dtype) {
    const double from = epsilon / kNarrowBoundSlack;
    const Rules rules = rules_of(dtype, epsilon);
    for (const std::vector<int>& degrees : Sequences(p, from, limit_, rules).found()) {
      const auto design = cached_design(p, from, degrees, rules.cushion, rules.cushion);
      const int most = core::to_int(degrees.size()) - 1;
      for (int rebuilds = std::max(0, most - rules.spared); rebuilds <= most; ++rebuilds)
        for (const bool keep_t : {false, true}) {
          // Where nothing is rebuilt, and at p = 0, there is nothing to keep; below 1/2 T would bring noise into the null
          // space.
          if (keep_t && (!rules.may_keep_t || rebuilds == 0 || 2 * p.numerator < p.denominator)) continue;
          NarrowPlan plan = plan_of(*design, rebuilds, keep_t);
          const NarrowCost cost = cost_of(p, plan);
          candidates_.emplace_back(degrees, std::move(plan), design->error, cost);
        }
    }
    if (candidates_.empty())
      core::fail(
          "a spectral power p = {} within a relative error of {} for singular values from {} on takes more than {} steps in "
          "{}; larger values of tolerance and epsilon are valid",
          to_string(p), tolerance, epsilon, rules.max_steps, name_of(dtype));
  }

  std::shared_ptr<const NarrowSchedule> best(std::int64_t rows, std::int64_t cols) {
    std::lock_guard lock(mutex_);
    std::stable_sort(candidates_.begin(), candidates_.end(), [&](const Candidate& a, const Candidate& b) {
      return a.cost().products(rows, cols) < b.cost().products(rows, cols);
    });
    if (auto found = cheapest(rows, cols, 1)) return found;
    double least = std::numeric_limits<double>::infinity();
    for (Candidate& c : candidates_) least = std::min(least, share(*c.schedule(p_, epsilon_, dtype_), rows, cols));
    if (std::isinf(least))
      core::fail(
          "a spectral power p = {} for singular values from {} on is more than the numbers of {} can hold; float32 is "
          "valid, "
          "and larger values of epsilon",
          to_string(p_), epsilon_, name_of(dtype_));
    return cheapest(rows, cols, kAboveLeast * least);
  }

 private:
  // Of what is allowed.
  double share(const NarrowSchedule& s, std::int64_t rows, std::int64_t cols) const {
    if (s.forecast.instability > kMostUnstable) return std::numeric_limits<double>::infinity();
    return std::max(s.forecast.error(rows, cols), s.forecast.noise / kNoiseShare) / limit_;
  }
  // Of candidates by rising cost, the one that is best among the cheapest; none where none has at most that share.
  std::shared_ptr<const NarrowSchedule> cheapest(std::int64_t rows, std::int64_t cols, double most) {
    std::shared_ptr<const NarrowSchedule> best;
    double least = most, products = std::numeric_limits<double>::infinity();
    for (Candidate& c : candidates_) {
      if (c.cost().products(rows, cols) > products) break;
      const auto s = c.schedule(p_, epsilon_, dtype_);
      if (share(*s, rows, cols) > least) continue;
      best = s;
      least = share(*s, rows, cols);
      products = c.cost().products(rows, cols);
    }
    return best;
  }

  Exponent p_;
  double epsilon_, limit_;
  core::Dtype dtype_;
  std::mutex mutex_;
  std::vector<Candidate> candidates_;
};

Search& search_for(Exponent p, double epsilon, double tolerance, core::Dtype dtype) {
  using Key = std::tuple<int, int, double, double, core::Dtype>;
  static std::mutex mutex;
  static std::map<Key, std::unique_ptr<Search>> known;
  std::lock_guard lock(mutex);
  return *core::remember(known, Key{p.numerator, p.denominator, epsilon, tolerance, dtype},
                         [&] { return std::make_unique<Search>(p, epsilon, tolerance, dtype); });
}

}  // namespace

std::shared_ptr<const NarrowSchedule> choose_narrow_schedule(Exponent p, double epsilon, double tolerance, core::Dtype dtype,
                                                             std::int64_t rows, std::int64_t cols) {
  return search_for(p, epsilon, tolerance, dtype).best(rows, cols);
}

}  // namespace muonp::optim::spectral
