// The evaluations that a run does while it trains (section `eval`).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "launch/evaluation/task.h"
#include "launch/train/learner.h"
#include "launch/train/observer.h"

namespace muonp::launch {

class TrainingTasks {
 public:
  // Reads and checks what the evaluations need. Collective: what is wrong on one rank is every rank's Error, also files that
  // differ.
  TrainingTasks(const RunConfig& config, Session& session, Learner& learner);
  TrainingTasks(const TrainingTasks&) = delete;
  TrainingTasks& operator=(const TrainingTasks&) = delete;

  struct Watcher {
    std::function<void(const std::string& task, std::int64_t done, std::int64_t total)> going_on;
    std::function<void(const std::string& task, const TaskNumbers& numbers)> done;
  };
  // Those that are due after `step` steps of training; `last`: no step follows. Collective; Interrupted on all ranks when
  // one is asked to stop.
  void run(std::int64_t step, bool last, const Watcher& watcher) const;

 private:
  struct Entry {
    TrainingTask config;
    std::unique_ptr<Task> task;
  };
  Learner& learner_;
  Subject subject_;
  std::vector<Entry> entries_;
};

}  // namespace muonp::launch
