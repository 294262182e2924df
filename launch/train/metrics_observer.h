// A training run in metrics.jsonl (launch/train/metrics.h).
#pragma once

#include <memory>
#include <string>

#include "launch/train/metrics.h"
#include "launch/train/observer.h"

namespace muonp::launch {

class MetricsObserver final : public TrainObserver {
 public:
  explicit MetricsObserver(std::string path) : path_(std::move(path)) {}

  void started(const RunStart& start) override;  // a run that is over is left as it is
  void stepped(const RunStep& step) override;
  void validated(const RunValidation& validation) override;
  void evaluated(const RunEvaluation& evaluation) override;
  void saved(const RunProgress& progress, const SaveReport& report) override;

 private:
  std::string path_;
  std::unique_ptr<MetricsWriter> file_;
};

}  // namespace muonp::launch
