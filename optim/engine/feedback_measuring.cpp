// What FeedbackPart measures in a step with spectral diagnostics (docs/diagnostics.md).
#include <cmath>

#include "core/base/index.h"
#include "core/base/math.h"
#include "optim/engine/feedback_part.h"

namespace muonp::optim {

using core::at;

void FeedbackPart::measure(std::span<const OwnerSide::Matrix> matrices) {
  std::vector<Diagnostics::Input> inputs;
  for (const OwnerSide::Matrix& m : matrices)
    inputs.push_back({matrices_[at(m.task)].parameter, m.in, m.out, feedback_->master(m.task)});
  diagnostics_.measure(inputs);
}

double FeedbackPart::squared_lag(int matrix, const dist::ErrorFeedback::Target& target) const {
  return squared_distance(device_.queue(), target.values, feedback_->estimate(matrix));
}

double FeedbackPart::squared_gap(int matrix) const {
  return squared_distance(device_.queue(), feedback_->master(matrix), feedback_->weights(matrix));
}

void FeedbackPart::measure_before(std::span<const dist::ErrorFeedback::Target> targets) {
  squares_.assign(at(plan_.matrices()), {});
  for (int i = 0; i < plan_.matrices(); ++i) {
    if (!wants(i)) continue;
    squares_[at(i)].lag_before = squared_lag(i, targets[at(i)]);
    squares_[at(i)].target = sum_of_squares(device_.queue(), targets[at(i)].values).sum;
  }
}

namespace {

double contraction(double before, double after) { return before > 0 ? 1 - after / before : 1; }
double ratio(double squares, double of) { return of > 0 ? std::sqrt(squares / of) : 0; }

}  // namespace

void FeedbackPart::measure_after(std::span<const dist::ErrorFeedback::Target> targets) {
  for (int i = 0; i < plan_.matrices(); ++i) {
    Squares& s = squares_[at(i)];
    if (wants(i)) s.lag = squared_lag(i, targets[at(i)]);
    if (!wants(i) || !feedback_->owns(i)) continue;
    s.gap = squared_gap(i);
    s.weights = sum_of_squares(device_.queue(), feedback_->weights(i)).sum;
  }
}

std::vector<MeasuredMatrix> FeedbackPart::take_measured() {
  if (squares_.empty()) return diagnostics_.take();
  std::vector<double> sums;
  for (const Squares& s : squares_) sums.insert(sums.end(), {s.lag_before, s.lag, s.target});
  communicator_.all_reduce(std::span<double>(sums), dist::Reduce::sum);
  for (int i = 0; i < core::to_int(squares_.size()); ++i) {
    const double before = sums[at(3 * i)], after = sums[at(3 * i + 1)], target = sums[at(3 * i + 2)];
    const Squares& s = squares_[at(i)];
    if (wants(i) && feedback_->owns(i))
      diagnostics_.add(matrices_[at(i)].parameter, {.alpha_to_owner = contraction(before, after),
                                                    .alpha_to_workers = contraction(s.gap_before, s.gap),
                                                    .lag = ratio(after, target),
                                                    .gap = ratio(s.gap, s.weights)});
  }
  squares_.clear();
  return diagnostics_.take();
}

}  // namespace muonp::optim
