// How far a sweep is: a line or a bar, and a line for each run that ends.
#pragma once

#include <cstdint>
#include <string>

#include "launch/report/progress.h"
#include "launch/sweep/run_outcome.h"

namespace muonp::launch {

class SweepProgress {
 public:
  // `total` of steps and runs, of which some have been done before. Those to come at the best settings count too.
  struct Amount {
    std::int64_t steps = 0, runs = 0;
  };
  SweepProgress(Amount total, Amount done, const SweepFile& file, ProgressOptions options);

  // The runs at the best settings are these, and so much of them is left.
  void set_left(Amount left);
  void ended(const SweepRun& run, const RunResult& result);
  // With `steps` done by the `running` runs of now.
  void show(std::int64_t steps, std::int64_t running);
  void say(const std::string& line) { bar_.print(line); }
  void clear() { bar_.clear(); }

 private:
  Amount total_, done_;
  const SweepFile& file_;
  std::int64_t failed_ = 0, not_finite_ = 0;
  std::string best_;
  double best_value_ = 0;
  Progress bar_;
};

}  // namespace muonp::launch
