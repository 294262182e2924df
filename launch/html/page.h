// One self-contained page about one run or several: no network, no script or font from elsewhere. What matters is there
// without a script; with one, values are read out by pointer and keyboard, and the theme can be switched.
#pragma once

#include <string>
#include <vector>

#include "launch/records/run_record.h"

namespace muonp::launch {

enum class RunState : std::uint8_t {
  finished,  // it has all its steps
  running,
  stopped  // by a signal, an error or a crash
};

struct ReportedRun {
  const RunRecord* record = nullptr;
  RunState state = RunState::stopped;
  std::string label = {};  // what it is called; told apart from the others
};

struct ReportOptions {
  std::string refreshed;       // when, as text
  double refresh_seconds = 0;  // > 0: the page loads itself again that often
};

// At least one run. Their order is that of colours and rows.
std::string render_report(const std::vector<ReportedRun>& runs, const ReportOptions& options);

// The state of a run that nobody holds, or somebody does.
RunState state_of(const RunRecord& run, bool held);

// Labels: names where they differ, else paths.
void label_runs(std::vector<ReportedRun>& runs);

}  // namespace muonp::launch
