// report.html in a run's folder, kept up to date while it trains (muonp report, docs/report.md).
#pragma once

#include <memory>
#include <string>

#include "launch/html/page.h"
#include "launch/train/observer.h"

namespace muonp::launch {

// Reads on in metrics.jsonl, so it stands behind the observer that writes that file. Bounded in time: the first page comes
// with the first step, and a page that took t seconds is followed by the next no sooner than max(10 s, 100 t) later, so that
// at most a hundredth of the time goes into it; and in memory, whatever the number of steps is. The page is replaced
// atomically.
class ReportObserver final : public TrainObserver {
 public:
  explicit ReportObserver(std::string folder) : folder_(std::move(folder)) {}

  void started(const RunStart& start) override;  // a run that is over is left as it is
  void stepped(const RunStep& step) override;
  void validated(const RunValidation& validation) override;
  void ended(const RunEnd& end) override;
  void interrupted() override;

 private:
  void write(RunState state);
  void write_if_due();

  std::string folder_;
  std::unique_ptr<RunReader> reader_;
  double due_ = 0;    // when the next page may be written
  double pause_ = 0;  // between the last page and the next
};

}  // namespace muonp::launch
