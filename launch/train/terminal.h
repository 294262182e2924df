// A training run for whoever looks at a terminal or a job's log: start-up tables, a line a step, warnings, a progress bar.
#pragma once

#include <memory>

#include "core/base/log.h"
#include "launch/report/progress.h"
#include "launch/train/observer.h"

namespace muonp::launch {

class TerminalObserver final : public TrainObserver {
 public:
  TerminalObserver(const RunConfig& config, const core::Log& log, ProgressOptions options)
      : config_(config), log_(log), options_(std::move(options)) {}

  void preparing(const RunPreparation& preparation) override;
  void started(const RunStart& start) override;
  void stepped(const RunStep& step) override;
  void validated(const RunValidation& validation) override;
  void evaluating(const RunProgress& progress, const std::string& task, std::int64_t done, std::int64_t of) override;
  void evaluated(const RunEvaluation& evaluation) override;
  void ended(const RunEnd& end) override;
  void interrupted() override { bar_.reset(); }

 private:
  std::string step_of(std::int64_t step) const;  // "step  7/420"

  const RunConfig config_;
  const core::Log& log_;
  ProgressOptions options_;
  std::unique_ptr<Progress> bar_;
};

}  // namespace muonp::launch
