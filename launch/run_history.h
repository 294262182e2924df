// What a run's metrics.jsonl says, summed up for comparisons.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "launch/metrics.h"
#include "launch/svg_plot.h"

namespace muonp::launch {

enum class RunAxis : std::uint8_t { step, tokens, seconds, sent };

struct RunHistory {
  std::string name;                  // the folder's name
  std::vector<MetricNumbers> lines;  // in the order of the file
};

// `path`: a run's folder, or a metrics.jsonl. Error names what is missing.
RunHistory read_run(const std::string& path);

// The values of `metric` over `axis`. A line without tokens or seconds takes those of the last line that has
// them.
std::vector<PlotPoint> curve(const RunHistory& run, const std::string& metric, RunAxis axis);

struct RunSummary {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  double steps = 0, seconds = kNone, tokens = kNone, sent_bytes = kNone;  // at the end
  double final_value = kNone;                         // of the metric
  double best_value = kNone, best_step = kNone;
  double train_loss = kNone;  // mean of `loss` over the last twentieth of the steps
};
// Error if no line has the metric; it lists the metrics that there are.
RunSummary summarize(const RunHistory& run, const std::string& metric);

}  // namespace muonp::launch
