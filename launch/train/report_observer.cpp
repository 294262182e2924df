#include "launch/train/report_observer.h"

#include <algorithm>
#include <cmath>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/report/time_text.h"

namespace muonp::launch {
namespace {

constexpr double kLeastPause = 10;     // seconds
constexpr double kPauseForCost = 100;  // times what the last page took

}  // namespace

void ReportObserver::started(const RunStart& start) {
  if (!start.over) reader_ = std::make_unique<RunReader>(folder_);
}

void ReportObserver::stepped(const RunStep&) { write_if_due(); }

void ReportObserver::validated(const RunValidation&) { write_if_due(); }

void ReportObserver::ended(const RunEnd& end) { write(end.stopped_by.empty() ? RunState::finished : RunState::stopped); }

// The error that ends the run is the one to be heard of.
void ReportObserver::interrupted() {
  try {
    if (reader_) write(RunState::stopped);
  } catch (const core::Error&) {
  }
}

void ReportObserver::write_if_due() {
  if (core::seconds_now() < due_) return;
  const double begin = core::seconds_now();
  write(RunState::running);
  const double end = core::seconds_now();
  pause_ = std::max(kLeastPause, kPauseForCost * (end - begin));
  due_ = end + pause_;
}

void ReportObserver::write(RunState state) {
  const RunRecord& record = reader_->read_on();
  if (record.series.empty()) return;  // an error before the first step
  std::vector<ReportedRun> runs = {{&record, state}};
  label_runs(runs);
  const double again = state == RunState::running ? std::ceil(std::max(kLeastPause, pause_)) : 0;
  core::write_file(folder_ + "/report.html", render_report(runs, {.refreshed = time_text(), .refresh_seconds = again}));
}

}  // namespace muonp::launch
