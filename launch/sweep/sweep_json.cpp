#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launch/sweep/presentation.h"

namespace muonp::launch {
namespace {

using nlohmann::ordered_json;

const char* name_of(RunState state) {
  switch (state) {
    case RunState::complete:
      return "complete";
    case RunState::not_finite:
      return "not_finite";
    case RunState::failed:
      return "failed";
    case RunState::unfinished:
      return "unfinished";
    case RunState::fresh:
      break;
  }
  return "not_started";
}

ordered_json number(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? ordered_json(*value) : nullptr;
}

ordered_json settings_json(const Settings& settings) {
  ordered_json j = ordered_json::object();
  for (const Setting& setting : settings) j[setting.path] = setting.value;
  return j;
}

ordered_json estimate_json(const std::optional<Estimate>& e) {
  if (!e || e->values.empty()) return nullptr;
  return {{"mean", e->mean}, {"spread", e->values.size() > 1 ? ordered_json(e->spread) : nullptr}, {"values", e->values}};
}

ordered_json counts_json(const RunCounts& counts) {
  return {{"complete", counts.complete},
          {"not_finite", counts.not_finite},
          {"failed", counts.failed},
          {"missing", counts.missing}};
}

ordered_json run_json(const Expansion& sweep, const SweepRun& run, const Results& results) {
  const auto found = results.find(run.name);
  const RunResult result = found == results.end() ? RunResult{} : found->second;
  const SweepPoint& point = sweep.points()[run.point];
  ordered_json also = ordered_json::object();
  for (std::size_t i = 0; i < result.also.size(); ++i) also[sweep.file().also[i]] = number(result.also[i]);
  return {{"name", run.name},
          {"arm", sweep.file().arms[point.arm].name},
          {"settings", settings_json(point.swept)},
          {"seed", run.seed},
          {"at_best", run.at_best},
          {"state", name_of(result.record.state)},
          {"message", result.record.message},
          {"value", number(result.value)},
          {"also", also},
          {"seconds_per_step", result.value ? number(result.seconds_per_step) : nullptr},
          {"sent_bytes_per_step", result.value ? number(result.sent_per_step) : nullptr}};
}

ordered_json tolerance_json(const std::optional<Tolerance>& t) {
  if (!t) return nullptr;
  return {{"low", t->low}, {"high", t->high}, {"low_open", t->low_open}, {"high_open", t->high_open}};
}

ordered_json arm_json(const Expansion& sweep, const ArmSummary& arm, const std::string& name) {
  ordered_json also = ordered_json::object();
  for (std::size_t i = 0; i < arm.also.size(); ++i) also[sweep.file().also[i]] = estimate_json(arm.also[i]);
  return {{"name", name},
          {"best_settings", arm.best ? settings_json(sweep.points()[*arm.best].swept) : nullptr},
          {"value", estimate_json(arm.at_best)},
          {"also", also},
          {"within_1_percent", tolerance_json(arm.tolerance)},
          {"at_edge", arm.at_edge},
          {"runs", counts_json(arm.counts)},
          {"seconds_per_step", arm.best ? number(arm.seconds_per_step) : nullptr},
          {"sent_bytes_per_step", arm.best ? number(arm.sent_per_step) : nullptr}};
}

}  // namespace

std::string sweep_json(const Expansion& sweep, const SweepSummary& summary, const Results& results,
                       const std::string& figure) {
  const SweepFile& file = sweep.file();
  ordered_json arms = ordered_json::array(), settings = ordered_json::array(), runs = ordered_json::array();
  for (std::size_t a = 0; a < summary.arms.size(); ++a) arms.push_back(arm_json(sweep, summary.arms[a], file.arms[a].name));
  for (std::size_t p = 0; p < summary.points.size(); ++p)
    settings.push_back({{"arm", file.arms[sweep.points()[p].arm].name},
                        {"settings", settings_json(sweep.points()[p].swept)},
                        {"value", estimate_json(summary.points[p].value)},
                        {"runs", counts_json(summary.points[p].counts)}});
  for (const SweepRun& run : sweep.runs()) runs.push_back(run_json(sweep, run, results));
  for (const ArmSummary& arm : summary.arms)
    if (arm.best)
      for (const SweepRun& run : sweep.runs_at_best(*arm.best))
        if (std::ranges::none_of(sweep.runs(), [&](const SweepRun& r) { return r.name == run.name; }))
          runs.push_back(run_json(sweep, run, results));
  const ordered_json j = {{"file", file.file},
                          {"folder", file.folder},
                          {"metric", file.metric},
                          {"better", file.lower_is_better ? "lower" : "higher"},
                          {"axis", summary.axis.empty() ? ordered_json(nullptr) : ordered_json(summary.axis)},
                          {"best_arm", summary.best_arm ? ordered_json(file.arms[*summary.best_arm].name) : nullptr},
                          {"arms", arms},
                          {"settings", settings},
                          {"runs", runs},
                          {"figure", figure.empty() ? ordered_json(nullptr) : ordered_json(figure)}};
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace muonp::launch
