// The training loop: what is shown, measured, saved and when.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "launch/program/signals.h"
#include "launch/report/progress.h"
#include "launch/train/checkpointing.h"
#include "launch/train/learner.h"
#include "launch/train/loss_guard.h"
#include "launch/train/metrics.h"
#include "launch/train/peak.h"
#include "launch/train/run_lock.h"

namespace muonp::launch {

class Trainer {
 public:
  // `config` as from resolve(). Holds the run's folder, builds everything, resumes, prints the start-up table. Collective.
  Trainer(const RunConfig& config, Session& session);

  // To the last step, until a rank is asked to stop, or until an Error that all ranks know of. A checkpoint then holds the
  // state (after the last step: checkpoint.at_end), and the Error says so, or why not. Returns the steps done. Collective.
  std::int64_t run(const StopSignals& signals);

 private:
  void measure_first_peak();
  void print_start();
  void one_step(bool stop_requested);
  void put_out(const std::function<void()>& output);
  void print_step(const StepOutcome& outcome);
  void train(const StopSignals& signals);
  [[noreturn]] void stop_before(const StepOutcome& outcome) const;
  void warn_of(const StepOutcome& outcome);
  void require_equal_weights();
  std::string save_what_is_good();
  bool done() const { return progress_.step >= config_.run.steps; }
  void validate();
  void save();
  void print_saved(const SaveReport& saved);
  double sent_bytes() const;  // by a rank since the start of the run, as planned; without validation and checks
  bool due(std::int64_t every) const { return every > 0 && progress_.step % every == 0; }

  const RunConfig config_;
  Session& session_;
  std::unique_ptr<RunLock> lock_;  // rank 0
  Learner learner_;
  Checkpointing checkpointing_;
  RunProgress progress_;
  std::optional<LossGuard> guard_;
  std::unique_ptr<MetricsWriter> metrics_;  // rank 0
  std::unique_ptr<Progress> bar_;           // rank 0
  std::optional<Peak> peak_;                // of this rank, where it is asked for
  double last_validation_ = 0;
  std::int64_t begun_save_ = -1, saved_step_ = -1;  // steps of the last save that was begun, and that was completed
  bool stopping_ = false, weights_differ_ = false;
};

}  // namespace muonp::launch
