#include "launch/train/run_history.h"

#include <cmath>

#include "core/base/error.h"
#include "core/files/files.h"

namespace muonp::launch {
namespace {

const char* key_of(RunAxis axis) {
  switch (axis) {
    case RunAxis::step:
      return "step";
    case RunAxis::tokens:
      return "tokens";
    case RunAxis::sent:
      return "sent_bytes";
    case RunAxis::seconds:
      break;
  }
  return "seconds";
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path.substr(path.find_last_of('/') + 1);
}

std::optional<double> last_value(const RunHistory& run, const std::string& key) {
  for (auto line = run.lines.rbegin(); line != run.lines.rend(); ++line)
    if (const auto found = line->find(key); found != line->end()) return found->second;
  return std::nullopt;
}

}  // namespace

std::string run_name(const std::string& path) {
  const bool file = core::exists(path) && !core::is_directory(path);
  return last_part(file ? core::parent_directory(path) : path);
}

RunHistory read_run(const std::string& path) {
  if (!core::exists(path)) core::fail("{}: no such file; a run's folder or its metrics.jsonl is needed", path);
  const std::string file = core::is_directory(path) ? path + "/metrics.jsonl" : path;
  return {run_name(path), core::exists(file) ? read_metrics(file) : std::vector<MetricNumbers>{}};
}

std::vector<PlotPoint> curve(const RunHistory& run, const std::string& metric, RunAxis axis) {
  const std::string key = key_of(axis);
  std::vector<PlotPoint> points;
  double x = 0;
  for (const MetricNumbers& line : run.lines) {
    if (const auto at = line.find(key); at != line.end()) x = at->second;
    if (const auto value = line.find(metric); value != line.end()) points.push_back({x, value->second});
  }
  return points;
}

std::string metric_label(const std::string& metric) {
  if (metric == "val_loss") return "validation loss [nats per token]";
  if (metric == "loss") return "training loss [nats per token]";
  return metric;
}

RunSummary summarize(const RunHistory& run, const std::string& metric) {
  RunSummary summary;
  summary.steps = last_value(run, "step");
  summary.seconds = last_value(run, "seconds");
  summary.tokens = last_value(run, "tokens");
  summary.sent_bytes = last_value(run, "sent_bytes");
  const std::vector<PlotPoint> points = curve(run, metric, RunAxis::step);
  if (!points.empty()) summary.final_value = points.back().y;
  for (const PlotPoint& point : points) {
    if (!std::isfinite(point.y) || (summary.best_value && point.y >= *summary.best_value)) continue;
    summary.best_value = point.y;
    summary.best_step = point.x;
  }
  const std::vector<PlotPoint> loss = curve(run, "loss", RunAxis::step);
  const std::size_t last = (loss.size() + 19) / 20;
  double sum = 0;
  for (std::size_t i = loss.size() - last; i < loss.size(); ++i) sum += loss[i].y;
  if (last > 0) summary.train_loss = sum / static_cast<double>(last);
  return summary;
}

}  // namespace muonp::launch
