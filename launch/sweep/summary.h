// What a sweep has found, in numbers: each setting over its seeds, the best of each arm, and how far the axis may move from
// there.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/sweep/run_outcome.h"

namespace muonp::launch {

// Of several seeds.
struct Estimate {
  std::vector<double> values;
  double mean = 0;
  double spread = 0;  // the sample's standard deviation (n − 1); 0 for one value
};
Estimate estimate(std::vector<double> values);  // at least one

struct RunCounts {
  int complete = 0, not_finite = 0, failed = 0, missing = 0;
  int all() const { return complete + not_finite + failed + missing; }
};

struct PointSummary {
  RunCounts counts;
  std::optional<Estimate> value;  // of the metric; only where all seeds are complete and finite
};

// Values of the axis next to each other whose metric is within 1 % of the best one's, the best among them.
struct Tolerance {
  double low = 0, high = 0;
  bool low_open = false, high_open = false;  // nothing beyond was tried
};
inline constexpr double kTolerance = 0.01;

struct ArmSummary {
  std::optional<std::size_t> best;                 // point; nothing where none has a value
  std::optional<Estimate> at_best;                 // over best.seeds, or else seeds
  bool own_seeds = false;                          // at_best is over best.seeds
  RunCounts counts;                                // of all its runs, those at the best too
  double seconds_per_step = 0, sent_per_step = 0;  // mean over the runs of at_best
  std::vector<Estimate> also;                      // of the same runs; no values where none has the metric
  std::optional<Tolerance> tolerance;              // where the axis has numbers
  bool at_edge = false;                            // the best lies at an end of what was tried of the axis
};

// The metric over the axis: the best of the points that share a value of it.
struct AxisPoint {
  double x = 0;
  std::optional<std::size_t> point;  // nothing where no point at x has a value
  bool not_finite = false;           // a run at x was
};

struct SweepSummary {
  std::string axis;  // a swept path; empty where none has numbers
  bool log_axis = false;
  std::vector<PointSummary> points;            // as Expansion::points()
  std::vector<ArmSummary> arms;                // as SweepFile::arms
  std::vector<std::vector<AxisPoint>> curves;  // of each arm, by rising x
  std::optional<std::size_t> best_arm;
};

// By run name.
using Results = std::map<std::string, RunResult>;
// Reads the records and metrics of all runs, those at the best settings too, as far as they are there.
Results read_results(const Expansion& sweep);
SweepSummary summarize(const Expansion& sweep, const Results& results);

// The best point of an arm by `results`; of equal ones the first.
std::optional<std::size_t> best_point(const Expansion& sweep, const Results& results, std::size_t arm);
// The path that curves are drawn over: the file's, or of the swept paths whose values are numbers one that ends in .lr, or
// the first. Empty if there is none. Error if the file's is none of them.
std::string axis_of(const Expansion& sweep);

}  // namespace muonp::launch
