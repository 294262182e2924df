#include "optim/plan/step_model.h"

#include <algorithm>
#include <numeric>

#include "core/base/index.h"
#include "optim/plan/step_tasks.h"

namespace muonp::optim {

using core::at;

std::string_view name_of(StepPhase phase) {
  static constexpr std::array<std::string_view, kStepPhases> names = {
      "forward",  "backward",           "reduction of gradients", "gathering of weights", "norm and loss",
      "momentum", "matrices to owners", "matrix updates",         "updates to all",       "weight update"};
  return names[at(phase)];
}

double PhaseCost::exposed() const { return std::accumulate(critical.begin(), critical.end(), 0.0); }

double StepPrediction::seconds() const {
  return std::accumulate(phases.begin(), phases.end(), 0.0,
                         [](double sum, const PhaseCost& p) { return sum + p.exposed(); });
}

double StepPrediction::bytes_sent() const {
  return std::accumulate(phases.begin(), phases.end(), 0.0, [](double sum, const PhaseCost& p) { return sum + p.sent; });
}

namespace {

std::array<double, dist::kBounds> by_bound(const StepPrediction& step) {
  std::array<double, dist::kBounds> sums{};
  for (const PhaseCost& phase : step.phases)
    for (std::size_t b = 0; b < sums.size(); ++b) sums[b] += phase.critical[b];
  return sums;
}

}  // namespace

dist::Bound StepPrediction::bound_by() const {
  const auto sums = by_bound(*this);
  return static_cast<dist::Bound>(std::ranges::max_element(sums) - sums.begin());
}

double StepPrediction::bound_share() const {
  const double whole = seconds();
  return whole > 0 ? std::ranges::max(by_bound(*this)) / whole : 0;
}

// From the third pass on each adds what the third does.
StepPrediction predict_step(const ExecutionPlan& plan, const PassWork& work, std::int64_t passes,
                            const dist::ClusterView& cluster, StepScheme scheme) {
  constexpr std::int64_t kSimulated = 3;
  StepTasks tasks(plan, work, cluster, scheme);
  if (passes <= kSimulated) return tasks.run(passes);
  StepPrediction step = tasks.run(kSimulated);
  const StepPrediction without = tasks.run(kSimulated - 1);
  step.passes = passes;
  const auto extend = [more = static_cast<double>(passes - kSimulated)](double& with, double less) {
    with += more * (with - less);
  };
  for (std::size_t p = 0; p < step.phases.size(); ++p) {
    PhaseCost& with = step.phases[p];
    const PhaseCost& less = without.phases[p];
    extend(with.flops, less.flops);
    extend(with.memory, less.memory);
    extend(with.sent, less.sent);
    extend(with.seconds, less.seconds);
    for (std::size_t b = 0; b < with.critical.size(); ++b) extend(with.critical[b], less.critical[b]);
  }
  return step;
}

}  // namespace muonp::optim
