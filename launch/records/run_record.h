// All that a run left of itself, in bounded memory, for reports: curves that are thinned, events, settings, plan.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/records/metric_lines.h"
#include "launch/records/settings.h"
#include "launch/records/start_record.h"
#include "launch/records/thinned_series.h"

namespace muonp::launch {

struct SavedCheckpoint {
  double step = 0, bytes = 0, blocked_seconds = 0, total_seconds = 0;
};

// Events of which there may be any number: all are counted, the first ones kept.
template <class Event>
struct Events {
  static constexpr std::size_t kMost = 1000;
  std::int64_t count = 0;
  std::vector<Event> first;
  std::optional<Event> last;
  void add(const Event& event) {
    ++count;
    if (first.size() < kMost) first.push_back(event);
    last = event;
  }
};

// The last hundred values and their mean.
class RecentMean {
 public:
  void add(double value);
  std::size_t count() const { return count_; }
  double value() const;  // NaN if there is none

 private:
  std::array<double, 100> values_{};
  std::size_t count_ = 0, next_ = 0;
};

// Sums over the steps of training.
struct PhaseTotals {
  double step_seconds = 0, spectral_seconds = 0, communication_seconds = 0;
  std::int64_t steps = 0;
};

struct RunRecord {
  std::string name, folder;
  Settings settings;                 // empty: the run's folder has no config.resolved.yaml
  std::optional<StartRecord> start;  // not of runs of older versions
  double planned_steps = 0;          // run.steps; 0: not known

  // Every number of metrics.jsonl by its key, over the step; and what follows from them: tokens_per_second, and
  // other_seconds, what of step_seconds is neither spectral nor communication.
  std::map<std::string, ThinnedSeries, std::less<>> series;
  // Matrices that spectra were measured of, in the model's order, each with its kind (docs/diagnostics.md).
  std::vector<std::pair<std::string, std::string>> matrices;
  double step = 0, seconds = 0, tokens = 0, sent_bytes = 0;  // at the end
  std::optional<SeriesPoint> best_validation;                // x: step
  RecentMean recent_loss;
  PhaseTotals phases;
  Events<SavedCheckpoint> checkpoints;
  Events<double> skipped, spikes;  // steps

  const ThinnedSeries* find(std::string_view key) const;
  void add(const MetricLine& line);

 private:
  void add_step(const MetricLine& line);
  void add_matrix(std::string_view key, const std::string& kind);
  double last_tokens_ = 0;
};

// The metrics.jsonl of a run's folder, or of its own path. Error: no such file, or a folder that no run has written to. The
// file of a run that has just started may still be missing.
std::string metrics_file(const std::string& path);

class RunReader {
 public:
  // `path` as metrics_file() takes it.
  explicit RunReader(const std::string& path);

  // What has been written up to now. Error: a damaged file, named.
  const RunRecord& read_on();

 private:
  void read_records();
  RunRecord record_;
  MetricLines lines_;
};

// Error if the run has no line yet.
RunRecord read_run_record(const std::string& path);

}  // namespace muonp::launch
