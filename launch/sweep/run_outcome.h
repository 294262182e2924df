// What became of a run, as the sweep writes it into the run's folder (sweep.json), and what its metrics say.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/sweep/expansion.h"

namespace muonp::launch {

enum class RunState : std::uint8_t {
  fresh,       // never started
  unfinished,  // started, or stopped with the sweep: it goes on from its checkpoint, or starts anew
  failed,      // the same, when the sweep is run again
  complete,    // has its steps: never run again
  not_finite   // ended early, because its loss was none any more: never run again
};

struct RunOutcome {
  RunState state = RunState::fresh;
  std::string message;  // failed: why; not_finite: where
};
inline bool is_over(RunState state) { return state == RunState::complete || state == RunState::not_finite; }

// Error: the folder's run was made with other settings, which are named, or by no sweep.
RunOutcome read_record(const SweepRun& run);
void write_record(const SweepRun& run, const RunOutcome& record);

std::string log_of(const SweepRun& run);  // the file with what the run printed

// Before a run is started that is not over. One that has its steps and was not stopped, which would have saved what is left
// to do, would go on with nothing to do: it starts anew.
void prepare_start(const SweepRun& run);

// Of a process that has ended, with `status` 128 + n by signal n. `stopped`: the sweep was asked to stop.
RunOutcome outcome_of(const SweepRun& run, int status, bool stopped);

// How far a run is that writes its metrics now: the end of the file is looked at.
struct RunningStep {
  std::int64_t step = 0;
  bool finite = true;  // the losses at the file's end
};
RunningStep running_step(const std::string& run_folder);

// What is compared.
struct RunResult {
  RunOutcome record;                               // not_finite also where the metric of a complete run is none
  std::optional<double> value;                     // of the metric, finite; of complete runs only
  double seconds_per_step = 0, sent_per_step = 0;  // [s], [bytes] per rank; of complete runs
  std::vector<double> also;                        // as SweepFile::also; NaN where the run has none
};
// Error where a complete run has no such metric: names those that there are.
RunResult result_of(const SweepRun& run, const SweepFile& file);

}  // namespace muonp::launch
