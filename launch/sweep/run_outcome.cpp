#include "launch/sweep/run_outcome.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/base/error.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"
#include "launch/train/run_history.h"

namespace muonp::launch {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::string_view, 5> kStates = {"fresh", "unfinished", "failed", "complete", "not finite"};
constexpr std::size_t kMostNamed = 5;          // settings that a message names
constexpr std::int64_t kEndBytes = 16 * 1024;  // of metrics.jsonl, a good number of lines

std::string record_file(const SweepRun& run) { return run.folder + "/sweep.json"; }
std::string metrics_file(const std::string& folder) { return folder + "/metrics.jsonl"; }

// Settings that the record has otherwise. One that it does not know is only named if the sweep gives it: programs get keys.
std::vector<std::string> differences(const SweepRun& run, const nlohmann::json& settings) {
  std::vector<std::string> all;
  for (const core::NamedValue& value : run.values) {
    const auto saved = settings.find(value.name);
    const bool given =
        std::ranges::any_of(run.overrides, [&](const std::string& o) { return o.starts_with(value.name + "="); });
    if (saved == settings.end() && given) all.push_back(fmt::format("{} is {} now", value.name, value.value));
    if (saved != settings.end() && *saved != value.value)
      all.push_back(fmt::format("{} was {} and is {} now", value.name, saved->get<std::string>(), value.value));
  }
  return all;
}

void require_same_settings(const SweepRun& run, const nlohmann::json& settings) {
  std::vector<std::string> all = differences(run, settings);
  if (all.empty()) return;
  const std::size_t more = all.size() - std::min(all.size(), kMostNamed);
  all.resize(std::min(all.size(), kMostNamed));
  if (more > 0) all.push_back(fmt::format("and {} more", more));
  core::fail("{} was run with other settings: {}; choose another folder for this sweep, or remove that one", run.folder,
             fmt::join(all, ", "));
}

std::string signal_text(int number) {
  const char* name = ::sigabbrev_np(number);
  return fmt::format("ended by signal {}{}", number, name == nullptr ? "" : fmt::format(" (SIG{})", name));
}

// The last line that says what is wrong, or the last line at all; launchers add lines of their own.
std::string last_words(const std::string& log) {
  constexpr std::string_view kError = "muonp: error: ";
  std::string last, error;
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
    if (line.starts_with(kError)) error = line.substr(kError.size());
  }
  return error.empty() ? last : error;
}

// Whether `muonp train` says that it was asked to stop; after its last step, that leaves what comes behind it for later.
bool was_stopped(const std::string& log) {
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("Stopped by ")) return true;
  return false;
}

bool is_none(const MetricNumbers& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && !std::isfinite(found->second);
}

std::int64_t step_of(const MetricNumbers& line) {
  const auto found = line.find("step");
  return found == line.end() || !std::isfinite(found->second) ? 0 : static_cast<std::int64_t>(found->second);
}

std::vector<MetricNumbers> metrics_of(const SweepRun& run) {
  const std::string file = metrics_file(run.folder);
  return core::exists(file) ? read_metrics(file) : std::vector<MetricNumbers>{};
}

double reduced(const std::vector<PlotPoint>& points, const SweepFile& file) {
  std::vector<double> values;
  for (const PlotPoint& point : points) values.push_back(point.y);
  if (file.reduction == Reduction::last) return values.back();
  if (file.reduction == Reduction::tail) {
    const auto count = (std::ssize(values) + 19) / 20;
    double sum = 0;
    for (auto v = values.end() - count; v != values.end(); ++v) sum += *v;
    return sum / static_cast<double>(count);
  }
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  if (values.empty()) return NAN;
  return file.lower_is_better ? std::ranges::min(values) : std::ranges::max(values);
}

std::vector<PlotPoint> metric_points(const RunHistory& history, const SweepRun& run, const std::string& metric) {
  std::vector<PlotPoint> points = curve(history, metric, RunAxis::step);
  if (!points.empty()) return points;
  std::set<std::string> keys;
  for (const MetricNumbers& line : history.lines)
    for (const auto& [key, value] : line) keys.insert(key);
  core::fail("metric: no line of {} has '{}'; there are {}", metrics_file(run.folder), metric, fmt::join(keys, ", "));
}

std::optional<RunState> state_named(const std::string& name) {
  const auto state = std::ranges::find(kStates, name);
  if (state == kStates.end()) return std::nullopt;
  return static_cast<RunState>(state - kStates.begin());
}

// With a state that there is, a message, and settings that are texts.
nlohmann::json record_in(const std::string& file) {
  try {
    nlohmann::json j = core::parse_strict_json(core::read_file(file));
    if (!state_named(j.at("state").get<std::string>())) core::fail("there is no state {}", j["state"].dump());
    j.at("message").get<std::string>();
    for (const auto& [key, value] : j.at("settings").items()) value.get<std::string>();
    return j;
  } catch (const nlohmann::json::exception& error) {
    core::fail("{} is damaged: {}; remove the folder to run it again", file, error.what());
  } catch (const core::Error& error) {
    core::fail("{} is damaged: {}; remove the folder to run it again", file, error.what());
  }
}

}  // namespace

std::string log_of(const SweepRun& run) { return run.folder + "/output.log"; }

RunOutcome read_record(const SweepRun& run) {
  const std::string file = record_file(run);
  if (!core::exists(file)) {
    if (core::exists(metrics_file(run.folder)) || core::exists(run.folder + "/checkpoints"))
      core::fail("{} holds a run that no sweep has made; choose another folder for this sweep, or remove that one",
                 run.folder);
    return {};
  }
  const nlohmann::json j = record_in(file);
  require_same_settings(run, j["settings"]);
  return {*state_named(j["state"]), j["message"]};
}

void write_record(const SweepRun& run, const RunOutcome& record) {
  ordered_json settings = ordered_json::object();
  for (const core::NamedValue& value : run.values) settings[value.name] = value.value;
  const ordered_json j = {
      {"state", kStates[static_cast<std::size_t>(record.state)]}, {"message", record.message}, {"settings", settings}};
  core::make_directories(run.folder);
  core::write_file(record_file(run), j.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

RunOutcome outcome_of(const SweepRun& run, int status, bool stopped) {
  const std::vector<MetricNumbers> lines = metrics_of(run);
  std::int64_t step = 0;
  const MetricNumbers* last = nullptr;  // of a training step
  for (const MetricNumbers& line : lines) {
    step = std::max(step, step_of(line));
    if (line.contains("loss")) last = &line;
    if (is_none(line, "loss") && !run.passes_over_bad_steps)
      return {RunState::not_finite, fmt::format("the loss of step {}", step_of(line))};
  }
  if (status == 0 && step >= run.steps && !was_stopped(log_of(run))) return {RunState::complete, ""};
  if (stopped && status == 0) return {RunState::unfinished, ""};
  if (status != 0 && last != nullptr && (is_none(*last, "loss") || is_none(*last, "grad_norm")))
    return {RunState::not_finite, fmt::format("loss or gradient of step {}", step_of(*last))};
  if (status == 0) return {RunState::failed, fmt::format("stopped after step {} of {}", step, run.steps)};
  const std::string words = last_words(log_of(run));
  if (status > 128) return {RunState::failed, signal_text(status - 128)};
  return {RunState::failed, words.empty() ? fmt::format("ended with status {} and without a word", status) : words};
}

void prepare_start(const SweepRun& run) {
  std::int64_t step = 0;
  for (const MetricNumbers& line : metrics_of(run)) step = std::max(step, step_of(line));
  if (step >= run.steps && !was_stopped(log_of(run))) core::remove_tree(run.folder);
  write_record(run, {RunState::unfinished, ""});
}

RunningStep running_step(const std::string& run_folder) {
  RunningStep result;
  std::ifstream file(metrics_file(run_folder), std::ios::binary | std::ios::ate);
  if (!file) return result;
  const std::int64_t size = file.tellg(), begin = std::max<std::int64_t>(0, size - kEndBytes);
  std::string text(static_cast<std::size_t>(size - begin), '\0');
  file.seekg(begin);
  file.read(text.data(), std::ssize(text));
  text.resize(text.rfind('\n') + 1);  // npos + 1 is 0
  std::istringstream lines(begin > 0 ? text.substr(text.find('\n') + 1) : text);
  for (std::string line; std::getline(lines, line);) {
    const auto j = nlohmann::json::parse(line, nullptr, false);
    if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) continue;
    result.step = std::max(result.step, j["step"].get<std::int64_t>());
    if (j.contains("loss") && j["loss"].is_null()) result.finite = false;
  }
  return result;
}

RunResult result_of(const SweepRun& run, const SweepFile& file) {
  RunResult result;
  result.record = read_record(run);
  if (result.record.state != RunState::complete) return result;
  const RunHistory history = read_run(run.folder);
  const double value = reduced(metric_points(history, run, file.metric), file);
  if (std::isfinite(value))
    result.value = value;
  else
    result.record = {RunState::not_finite, file.metric};
  const RunSummary summary = summarize(history, file.metric);
  result.seconds_per_step = summary.seconds.value_or(NAN) / static_cast<double>(run.steps);
  result.sent_per_step = summary.sent_bytes.value_or(NAN) / static_cast<double>(run.steps);
  for (const std::string& key : file.also) {
    const std::vector<PlotPoint> points = curve(history, key, RunAxis::step);
    result.also.push_back(points.empty() ? NAN : points.back().y);
  }
  return result;
}

}  // namespace muonp::launch
