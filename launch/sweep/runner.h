// Runs of a sweep as processes, several side by side.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "launch/program/signals.h"
#include "launch/sweep/child.h"
#include "launch/sweep/sweep_progress.h"

namespace muonp::launch {

// What runs side by side on this machine: as many as the cores that this process may use hold, and no more than `jobs` or
// GPUs, if that is what runs compute on; one, if they have ranks.
struct Slots {
  int count = 1;
  bool gpus = false;  // each has one of its own
};
Slots slots_for(const SweepFile& file, const std::vector<SweepRun>& runs);

// The words and the environment that a run is started with, the `slot`-th of those side by side.
Child::Command command_of(const SweepRun& run, const SweepFile& file, const std::string& program, bool gpus, int slot);

class Runner {
 public:
  Runner(const SweepFile& file, Slots slots, const StopSignals& signals, SweepProgress& progress);

  // Runs those that are not over, and records what becomes of them. A run that fails does not end the sweep. One whose loss
  // is not finite is stopped. When the process is asked to stop, all that are running are, and Interrupted is thrown when
  // they have ended.
  void run(const std::vector<SweepRun>& runs);

 private:
  struct Running {
    const SweepRun* run;
    std::unique_ptr<Child> child;
    int slot;
  };
  void start_what_fits();
  void start(const SweepRun& run);
  void look_after(bool stopping);
  void end(Running& running, int status, bool stopping);
  int free_slot() const;

  const SweepFile& file_;
  const Slots slots_;
  const StopSignals& signals_;
  SweepProgress& progress_;
  std::string program_;
  std::vector<const SweepRun*> waiting_;  // in reverse
  std::vector<Running> running_;
  bool begun_ = false;  // a run has written a step, so that data that all need is there
  bool said_held_ = false;
};

}  // namespace muonp::launch
