#include "launch/train/terminal.h"

#include <algorithm>

#include "core/base/units.h"

namespace muonp::launch {

std::string TerminalObserver::step_of(std::int64_t step) const {
  return fmt::format("step {:>{}}/{}", step, std::to_string(config_.run.steps).size(), config_.run.steps);
}

void TerminalObserver::preparing(const RunPreparation& p) {
  if (!bar_) bar_ = std::make_unique<Progress>(p.what, p.total, 0, options_);
  bar_->update(p.done, "");
  if (p.done == p.total) bar_.reset();
}

void TerminalObserver::started(const RunStart& start) {
  log_.info("{}", start_report(start.facts));
  if (start.over) {
    log_.info("Nothing to do: {} is at step {}, and run.steps is {}; with more steps it goes on from there.",
              config_.directory(), start.step, config_.run.steps);
    return;
  }
  if (start.step > 0) log_.info("Resumed {} after step {} of {}.", config_.directory(), start.step, config_.run.steps);
  bar_ = std::make_unique<Progress>(config_.run.name, std::max<std::int64_t>(1, config_.run.steps), start.step, options_);
}

void TerminalObserver::stepped(const RunStep& s) {
  const std::int64_t step = s.progress.step;
  if (!s.warning.empty()) log_.warn("step {}: {}", step, s.warning);
  for (const std::string& line : s.exponents.lines) bar_->print(fmt::format("{}  {}", step_of(step), line));
  if (step % config_.log.every == 0 || step == config_.run.steps || s.outcome.stop) {
    // Of text every target is counted.
    const std::string counted =
        static_cast<double>(s.outcome.counted) == s.tokens ? "" : fmt::format("  {} counted", s.outcome.counted);
    const std::string peak = s.peak_share > 0 ? fmt::format("  {:4.1f} % of peak", 100 * s.peak_share) : "";
    bar_->print(fmt::format("{}  loss {:8.4f}  norm {:9.3e}  lr {:8.2e}  {:8.1f} ms  {:>16}{}{}", step_of(step),
                            s.outcome.loss, s.outcome.report.gradient_norm, s.lr, 1e3 * s.outcome.total_seconds,
                            core::format_rate(s.tokens / s.outcome.total_seconds, "tokens"), counted, peak));
  }
  bar_->update(step, fmt::format("loss {:.4f}", s.outcome.loss));
}

void TerminalObserver::validated(const RunValidation& v) {
  bar_->print(fmt::format("{}  validation loss {:.4f}", step_of(v.progress.step), v.loss));
}

void TerminalObserver::evaluating(const RunProgress& progress, const std::string& task, std::int64_t done, std::int64_t of) {
  bar_->update(progress.step, fmt::format("{} {}/{}", task, done, of));
}

void TerminalObserver::evaluated(const RunEvaluation& e) {
  std::string line = fmt::format("{}  {}", step_of(e.progress.step), e.task);
  for (const TaskNumber& number : e.numbers) line += fmt::format("  {} {}", number.name, text_of(number));
  bar_->print(line);
}

void TerminalObserver::ended(const RunEnd& end) {
  bar_.reset();
  if (const std::int64_t skipped = end.progress.losses.skipped; skipped > 0)
    log_.info("{} of {} steps were skipped.", skipped, end.progress.step);
  if (!end.stopped_by.empty())
    log_.info("Stopped by {} after step {} of {}; the same command goes on from there.", end.stopped_by, end.progress.step,
              config_.run.steps);
}

}  // namespace muonp::launch
