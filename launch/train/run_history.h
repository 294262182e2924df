// What a run's metrics.jsonl says, summed up for comparisons.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/report/svg_plot.h"
#include "launch/train/metrics.h"

namespace muonp::launch {

enum class RunAxis : std::uint8_t { step, tokens, seconds, sent };

struct RunHistory {
  std::string name;                  // the folder's name
  std::vector<MetricNumbers> lines;  // in the order of the file
};

// `path`: a run's folder, or a metrics.jsonl. A run that has just started has no lines, and perhaps no file yet. Error: no
// such folder or file, a damaged line.
std::string run_name(const std::string& path);
RunHistory read_run(const std::string& path);

// The values of `metric` over `axis`. A line without tokens or seconds takes those of the last line that has
// them.
std::vector<PlotPoint> curve(const RunHistory& run, const std::string& metric, RunAxis axis);

// What a metric is called on an axis: with its unit, where that is known.
std::string metric_label(const std::string& metric);

struct RunSummary {
  std::optional<double> steps, seconds, tokens, sent_bytes;  // at the end
  std::optional<double> final_value;                         // of the metric; NaN where it was not finite
  std::optional<double> best_value, best_step;               // of the finite values
  std::optional<double> train_loss;                          // mean of `loss` over the last twentieth of the steps
};
// What is not known of the run is left empty.
RunSummary summarize(const RunHistory& run, const std::string& metric);

}  // namespace muonp::launch
