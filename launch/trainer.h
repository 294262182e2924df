// The training loop: what is shown, measured, saved and when.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "launch/checkpointing.h"
#include "launch/learner.h"
#include "launch/loss_guard.h"
#include "launch/metrics.h"
#include "launch/peak.h"
#include "launch/progress.h"
#include "launch/signals.h"

namespace muonp::launch {

class Trainer {
 public:
  // `config` as from resolve(). Builds everything, resumes, prints the start-up table. Collective.
  Trainer(const RunConfig& config, Session& session);

  // To the last step, or until a rank is asked to stop; either way a checkpoint holds the state
  // (checkpoint.at_end). Returns the steps done. Collective.
  std::int64_t run(const StopSignals& signals);

 private:
  void measure_first_peak();
  void print_start();
  void one_step(bool stop_requested);
  void print_step(const StepOutcome& outcome);
  void train(const StopSignals& signals);
  void stop_before(const StepOutcome& outcome);
  void warn_of(const StepOutcome& outcome);
  void validate();
  void save();
  void print_saved(const SaveReport& saved);
  double sent_bytes() const;  // by a rank since the start of the run, as planned; without validation and checks
  bool due(std::int64_t every) const { return every > 0 && progress_.step % every == 0; }

  const RunConfig config_;
  Session& session_;
  Learner learner_;
  Checkpointing checkpointing_;
  RunProgress progress_;
  std::optional<LossGuard> guard_;
  std::unique_ptr<MetricsWriter> metrics_;  // rank 0
  std::unique_ptr<Progress> bar_;           // rank 0
  std::optional<Peak> peak_;                // of this rank, where it is asked for
  double last_validation_ = 0;
  std::int64_t saved_step_ = -1;
  bool stopping_ = false;
};

}  // namespace muonp::launch
