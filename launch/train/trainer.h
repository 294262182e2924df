// The training loop: what is done, measured, saved and told, and when. It prints nothing: observers do.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/program/signals.h"
#include "launch/train/checkpointing.h"
#include "launch/train/learner.h"
#include "launch/train/loss_guard.h"
#include "launch/train/observer.h"
#include "launch/train/peak.h"
#include "launch/train/run_lock.h"
#include "launch/train/training_tasks.h"

namespace muonp::launch {

class Trainer {
 public:
  // `config` as from resolve(). Holds the run's folder, builds everything, resumes. `observers` on rank 0 only, none on the
  // others. Collective.
  Trainer(const RunConfig& config, Session& session, std::vector<std::unique_ptr<TrainObserver>> observers);

  // To the last step, until a rank is asked to stop, or until an Error that all ranks know of. A checkpoint then holds the
  // state (after the last step: checkpoint.at_end), and the Error says so, or why not. Returns the steps done. Collective.
  std::int64_t run(const StopSignals& signals);

 private:
  core::Preparation preparation();
  void measure_first_peak();
  void write_records(const StartFacts& facts);
  void one_step(bool stop_requested);
  void tell(const std::function<void(TrainObserver&)>& what);
  RunStep record_of(const StepOutcome& outcome);
  void train(const StopSignals& signals);
  [[noreturn]] void stop_before(const StepOutcome& outcome) const;
  std::string warning_of(const StepOutcome& outcome) const;
  void require_equal_weights();
  std::string save_what_is_good();
  // A run of no steps saves what it starts from.
  bool done() const {
    const std::int64_t steps = config_.run.steps;
    if (progress_.step != steps) return progress_.step > steps;
    return progress_.evaluated && (steps > 0 || saved_step_ == 0);
  }
  void with_averages(const std::function<void()>& work);
  std::function<void(std::int64_t, std::int64_t)> teller_of(const std::string& task);
  void validate();
  void evaluate();
  void evaluate_what_is_due();
  void save();
  void tell_saved(const SaveReport& saved);
  double sent_bytes() const;
  bool due(std::int64_t every) const { return every > 0 && progress_.step % every == 0; }

  const RunConfig config_;
  Session& session_;
  std::vector<std::unique_ptr<TrainObserver>> observers_;
  std::unique_ptr<RunLock> lock_;  // rank 0
  Learner learner_;
  TrainingTasks tasks_;
  Checkpointing checkpointing_;
  RunProgress progress_;
  std::optional<LossGuard> guard_;
  ExponentWatch exponents_;
  std::optional<Peak> peak_;                        // of this rank, where it is asked for
  std::int64_t begun_save_ = -1, saved_step_ = -1;  // steps of the last save that was begun, and that was completed
  bool stopping_ = false, weights_differ_ = false;
};

}  // namespace muonp::launch
