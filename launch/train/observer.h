// What a training run tells whoever watches it: terminal and metrics file are observers, and so can be a test, or a trainer
// that embeds this one. Observers are called on rank 0 only. An Error of theirs is told to all ranks with the next step, so
// that the run ends with a save; until then nothing more is told.
#pragma once

#include <cstdint>
#include <string>

#include "launch/evaluation/task.h"
#include "launch/train/checkpointing.h"
#include "launch/train/exponent_watch.h"
#include "launch/train/start_report.h"

namespace muonp::launch {

struct RunPreparation {
  const std::string& what;           // "encoding", "reading FOLDER"
  std::int64_t done = 0, total = 1;  // bytes of text, or elements of weights
};

struct RunStart {
  const StartFacts& facts;
  std::int64_t step = 0;  // done before
  bool over = false;      // there is nothing left to do
};

struct RunStep {
  const RunProgress& progress;  // after the step
  const StepOutcome& outcome;
  double lr = 0;                  // of the group of matrices
  double tokens = 0;              // of one step
  double sent_bytes = 0;          // by a rank since the start of the run, as planned; without validation and checks
  std::int64_t memory_bytes = 0;  // most that this rank's device has held so far
  double peak_share = 0;          // of the matrix-product peak; 0 where that is not measured
  bool spike = false;             // of the loss
  ExponentRecord exponents = {};  // none of a step that is skipped
  std::string warning = {};       // why the step was skipped, or what its loss is; mostly empty
};

struct RunValidation {
  const RunProgress& progress;
  double loss = 0;
  std::int64_t counted = 0;  // targets
  double sent_bytes = 0;
};

// Of the section `eval`.
struct RunEvaluation {
  const RunProgress& progress;
  const std::string& task;
  const TaskNumbers& numbers;
};

struct RunEnd {
  const RunProgress& progress;
  std::string stopped_by = {};  // a signal's name, or another rank; empty where all steps are done
};

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  // Now and then while data is encoded, or the weights that the run starts from are read from a folder, and at its end;
  // before started(), perhaps from another thread while the caller's waits.
  virtual void preparing(const RunPreparation&) {}
  virtual void started(const RunStart&) {}
  virtual void stepped(const RunStep&) {}
  virtual void validated(const RunValidation&) {}
  // While an evaluation goes on; its items (texts, questions) of all ranks.
  virtual void evaluating(const RunProgress&, const std::string& /*task*/, std::int64_t /*done*/, std::int64_t /*of*/) {}
  virtual void evaluated(const RunEvaluation&) {}
  virtual void saved(const RunProgress&, const SaveReport&) {}
  // In order; where an error ends the run, interrupted() comes instead, before its message.
  virtual void ended(const RunEnd&) {}
  virtual void interrupted() {}
};

}  // namespace muonp::launch
