#include "launch/sweep/sweep_progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/units.h"

namespace muonp::launch {

SweepProgress::SweepProgress(Amount total, Amount done, const SweepFile& file, ProgressOptions options)
    : total_(total),
      done_(done),
      file_(file),
      bar_("sweep", std::max<std::int64_t>(total.steps, 1), done.steps, std::move(options)) {}

void SweepProgress::set_left(Amount left) {
  total_ = {done_.steps + left.steps, done_.runs + left.runs};
  bar_.set_total(std::max<std::int64_t>(total_.steps, 1));
}

void SweepProgress::ended(const SweepRun& run, const RunResult& result) {
  const RunOutcome& record = result.record;
  std::string line = run.name + ": ";
  if (record.state == RunState::failed) {
    ++failed_;
    line += fmt::format("failed: {} ({})", record.message, log_of(run));
  } else if (record.state == RunState::not_finite) {
    ++not_finite_;
    line += fmt::format("not finite: {}", record.message);
  } else if (result.value) {
    line += fmt::format("{} {:.4f}, {} a step", file_.metric, *result.value, core::format_duration(result.seconds_per_step));
    const bool better = file_.lower_is_better ? *result.value < best_value_ : *result.value > best_value_;
    if (best_.empty() || better) best_value_ = *result.value, best_ = run.name;
  } else {
    line += "stopped";
  }
  bar_.print(line);
  if (record.state == RunState::unfinished) return;
  done_.steps = std::min(done_.steps + run.steps, total_.steps);
  ++done_.runs;
}

void SweepProgress::show(std::int64_t steps, std::int64_t running) {
  std::string note = fmt::format("{} of {} runs", done_.runs, total_.runs);
  if (running > 0) note += fmt::format(", {} running", running);
  if (not_finite_ > 0) note += fmt::format(", {} not finite", not_finite_);
  if (failed_ > 0) note += fmt::format(", {} failed", failed_);
  if (!best_.empty()) note += fmt::format(", best {:.4f} ({})", best_value_, best_);
  bar_.update(std::min(done_.steps + steps, total_.steps), note);
}

}  // namespace muonp::launch
