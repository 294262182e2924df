#include "launch/sweep/summary.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

constexpr double kLogFrom = 8;  // an axis whose ends are this factor apart is read by factors

std::optional<std::string> value_at(const SweepPoint& point, const std::string& path) {
  const auto found = std::ranges::find(point.swept, path, &Setting::path);
  return found == point.swept.end() ? std::nullopt : std::optional(found->value);
}

std::optional<double> number_at(const SweepPoint& point, const std::string& path) {
  const auto value = value_at(point, path);
  return value ? number_in(*value) : std::nullopt;
}

bool better(double a, double b, const SweepFile& file) { return file.lower_is_better ? a < b : a > b; }

void count(RunCounts& counts, const RunResult& result) {
  switch (result.record.state) {
    case RunState::complete:
      ++counts.complete;
      return;
    case RunState::not_finite:
      ++counts.not_finite;
      return;
    case RunState::failed:
      ++counts.failed;
      return;
    case RunState::fresh:
    case RunState::unfinished:
      ++counts.missing;
  }
}

RunResult result_at(const Results& results, const SweepRun& run) {
  const auto found = results.find(run.name);
  return found == results.end() ? RunResult{} : found->second;
}

std::vector<SweepRun> runs_of_point(const Expansion& sweep, std::size_t point) {
  std::vector<SweepRun> runs;
  std::ranges::copy_if(sweep.runs(), std::back_inserter(runs), [&](const SweepRun& run) { return run.point == point; });
  return runs;
}

// The values where every run has one.
std::optional<Estimate> estimate_of(const std::vector<SweepRun>& runs, const Results& results) {
  std::vector<double> values;
  for (const SweepRun& run : runs)
    if (const auto value = result_at(results, run).value) values.push_back(*value);
  if (values.empty() || values.size() < runs.size()) return std::nullopt;
  return estimate(std::move(values));
}

std::vector<AxisPoint> curve_of(const Expansion& sweep, const SweepSummary& summary, std::size_t arm) {
  std::map<double, AxisPoint> by_x;
  for (std::size_t p = 0; p < sweep.points().size(); ++p) {
    const auto x = number_at(sweep.points()[p], summary.axis);
    if (sweep.points()[p].arm != arm || !x) continue;
    AxisPoint& at = by_x[*x];
    at.x = *x;
    at.not_finite = at.not_finite || summary.points[p].counts.not_finite > 0;
    const auto& value = summary.points[p].value;
    if (value && (!at.point || better(value->mean, summary.points[*at.point].value->mean, sweep.file()))) at.point = p;
  }
  std::vector<AxisPoint> curve;
  for (const auto& [x, at] : by_x) curve.push_back(at);
  return curve;
}

// Around the best point of the arm.
void fill_tolerance(const std::vector<AxisPoint>& curve, const SweepSummary& summary, ArmSummary& arm) {
  const auto best = std::ranges::find(curve, arm.best, &AxisPoint::point);
  if (!arm.best || best == curve.end()) return;
  const double value = summary.points[*arm.best].value->mean;
  const auto near = [&](const AxisPoint& at) {
    return at.point && std::fabs(summary.points[*at.point].value->mean - value) <= kTolerance * std::fabs(value);
  };
  auto low = best, high = best;
  while (low != curve.begin() && near(*std::prev(low))) --low;
  while (std::next(high) != curve.end() && near(*std::next(high))) ++high;
  arm.tolerance = {low->x, high->x, low == curve.begin(), std::next(high) == curve.end()};
  arm.at_edge = curve.size() > 1 && (best == curve.begin() || std::next(best) == curve.end());
}

double mean_of(const std::vector<SweepRun>& runs, const Results& results, double RunResult::*number) {
  double sum = 0;
  for (const SweepRun& run : runs) sum += result_at(results, run).*number;
  return sum / static_cast<double>(runs.size());
}

std::vector<Estimate> estimates_also(const Expansion& sweep, const std::vector<SweepRun>& runs, const Results& results) {
  std::vector<Estimate> all;
  for (std::size_t i = 0; i < sweep.file().also.size(); ++i) {
    std::vector<double> values;
    for (const SweepRun& run : runs)
      if (const RunResult result = result_at(results, run); i < result.also.size() && std::isfinite(result.also[i]))
        values.push_back(result.also[i]);
    all.push_back(values.empty() ? Estimate{} : estimate(std::move(values)));
  }
  return all;
}

// Runs at the best that are not among those of the sweep are counted beside them.
void add_runs_at_best(const Expansion& sweep, const Results& results, ArmSummary& arm) {
  const std::vector<SweepRun> swept = runs_of_point(sweep, *arm.best), own = sweep.runs_at_best(*arm.best);
  for (const SweepRun& run : own)
    if (std::ranges::find(swept, run.name, &SweepRun::name) == swept.end()) count(arm.counts, result_at(results, run));
  const std::optional<Estimate> found = own.empty() ? std::nullopt : estimate_of(own, results);
  arm.own_seeds = found.has_value();
  arm.at_best = found ? found : estimate_of(swept, results);
  const std::vector<SweepRun>& shown = found ? own : swept;
  arm.seconds_per_step = mean_of(shown, results, &RunResult::seconds_per_step);
  arm.sent_per_step = mean_of(shown, results, &RunResult::sent_per_step);
  arm.also = estimates_also(sweep, shown, results);
}

bool reads_by_factors(const Expansion& sweep, const std::string& axis) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const SweepPoint& point : sweep.points())
    if (const auto x = number_at(point, axis)) low = std::min(low, *x), high = std::max(high, *x);
  return low > 0 && high >= kLogFrom * low;
}

}  // namespace

Estimate estimate(std::vector<double> values) {
  Estimate e{.values = std::move(values)};
  const auto n = static_cast<double>(e.values.size());
  for (const double v : e.values) e.mean += v / n;
  double squares = 0;
  for (const double v : e.values) squares += (v - e.mean) * (v - e.mean);
  if (n > 1) e.spread = std::sqrt(squares / (n - 1));
  return e;
}

std::optional<std::size_t> best_point(const Expansion& sweep, const Results& results, std::size_t arm) {
  std::optional<std::size_t> best;
  double value = 0;
  for (std::size_t p = 0; p < sweep.points().size(); ++p) {
    if (sweep.points()[p].arm != arm) continue;
    const auto found = estimate_of(runs_of_point(sweep, p), results);
    if (!found || (best && !better(found->mean, value, sweep.file()))) continue;
    best = p;
    value = found->mean;
  }
  return best;
}

std::string axis_of(const Expansion& sweep) {
  std::vector<std::string> paths;
  for (const SweepPoint& point : sweep.points())
    for (const Setting& setting : point.swept)
      if (number_in(setting.value) && std::ranges::find(paths, setting.path) == paths.end()) paths.push_back(setting.path);
  const std::string& wanted = sweep.file().axis;
  if (!wanted.empty() && std::ranges::find(paths, wanted) == paths.end())
    core::fail("{}: axis: {} is no path that takes several numbers here; there are {}", sweep.file().file, wanted,
               paths.empty() ? "none" : fmt::format("{}", fmt::join(paths, ", ")));
  if (!wanted.empty() || paths.empty()) return wanted;
  const auto rate = std::ranges::find_if(paths, [](const std::string& path) { return path.ends_with(".lr"); });
  return rate == paths.end() ? paths.front() : *rate;
}

Results read_results(const Expansion& sweep) {
  Results results;
  const auto read = [&](const std::vector<SweepRun>& runs) {
    for (const SweepRun& run : runs) results.emplace(run.name, result_of(run, sweep.file()));
  };
  read(sweep.runs());
  for (std::size_t arm = 0; arm < sweep.file().arms.size(); ++arm)
    if (const auto best = best_point(sweep, results, arm)) read(sweep.runs_at_best(*best));
  return results;
}

SweepSummary summarize(const Expansion& sweep, const Results& results) {
  SweepSummary summary;
  summary.axis = axis_of(sweep);
  summary.log_axis = !summary.axis.empty() && reads_by_factors(sweep, summary.axis);
  for (std::size_t p = 0; p < sweep.points().size(); ++p) {
    const std::vector<SweepRun> runs = runs_of_point(sweep, p);
    PointSummary point{.counts = {}, .value = estimate_of(runs, results)};
    for (const SweepRun& run : runs) count(point.counts, result_at(results, run));
    summary.points.push_back(std::move(point));
  }
  for (std::size_t a = 0; a < sweep.file().arms.size(); ++a) {
    ArmSummary arm;
    arm.best = best_point(sweep, results, a);
    for (const SweepRun& run : sweep.runs())
      if (sweep.points()[run.point].arm == a) count(arm.counts, result_at(results, run));
    if (arm.best) add_runs_at_best(sweep, results, arm);
    summary.curves.push_back(curve_of(sweep, summary, a));
    fill_tolerance(summary.curves.back(), summary, arm);
    const auto& top = summary.best_arm;
    if (arm.at_best && (!top || better(arm.at_best->mean, summary.arms[*top].at_best->mean, sweep.file())))
      summary.best_arm = a;
    summary.arms.push_back(std::move(arm));
  }
  return summary;
}

}  // namespace muonp::launch
