// Losses that jump. A step's loss is a spike if it is not finite, or exceeds the median m of the last
// `window` losses by `factor` spreads, where the spread is their scaled median absolute deviation (Huber,
// Robust Statistics, 1981, 5.1)
//
//   s = max(1.4826 · median |loss_i − m|,  0.01 · |m|).
//
// Neither m nor s is moved by a few spikes in the window. 1.4826 makes s the standard deviation of normal
// losses; the floor keeps a plateau from turning noise into spikes. Until the window is full, only a loss
// that is not finite is one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/config.h"

namespace muonp::launch {

struct GuardSection {
  std::string spike = "off";
  double factor = 8;
  std::int64_t window = 64;
  std::int64_t max_skipped = 10;
  void describe(core::Fields& f);
};

// What decisions depend on: part of a checkpoint, so that a resumed run decides as an uninterrupted one.
struct LossHistory {
  std::vector<double> losses;  // of the last steps that moved the weights, at most `window`, oldest first
  std::int64_t skipped = 0;    // steps of the run that left the weights as they were
  std::int64_t skipped_in_a_row = 0;
};

// The same on every rank, because the losses that it is told are.
class LossGuard {
 public:
  LossGuard(const GuardSection& settings, LossHistory history);

  bool is_spike(double loss) const;  // never, if guard.spike is off
  // Whether the policy forbids the update of a step with this loss.
  bool refuses(double loss) const { return forbids_ && is_spike(loss); }
  // "loss 9.1 is a spike: the last 64 losses have median 2.1, spread 0.03, and guard.factor is 8"
  std::string explain(double loss) const;

  // After each step.
  void record(double loss, bool skipped);
  // Error, the same on all ranks, when guard.max_skipped steps in a row were skipped, for whatever reason. `loss`: the last.
  void require_moves(double loss) const;
  const LossHistory& history() const { return history_; }

 private:
  struct Level {
    double median = 0, spread = 0;
  };
  Level level() const;
  bool full() const { return std::ssize(history_.losses) >= settings_.window; }

  const GuardSection settings_;
  const bool forbids_;
  LossHistory history_;
};

}  // namespace muonp::launch
