#include "launch/records/run_record.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "core/base/error.h"
#include "core/files/files.h"

namespace muonp::launch {
namespace {

// Of curves that a reader looks at closely, and of those that come in numbers.
constexpr std::size_t kColumns = 1024, kColumnsOfMany = 256;

std::string last_part(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path.substr(path.find_last_of('/') + 1);
}

// A name of use also for "." and "..".
std::string name_of(const std::string& folder) {
  const std::string name = last_part(folder);
  if (name != "." && name != "..") return name;
  char* whole = ::realpath(folder.c_str(), nullptr);
  const std::string result = whole != nullptr ? last_part(whole) : name;
  std::free(whole);
  return result;
}

void append(ThinnedSeries& series, double x, double y) {
  if (series.empty() || x >= series.last().x) series.add(x, y);
}

double number_or(const MetricLine& line, std::string_view key, double otherwise) {
  const double* value = line.find(key);
  return value != nullptr ? *value : otherwise;
}

}  // namespace

std::string metrics_file(const std::string& path) {
  if (!core::exists(path)) core::fail("{}: no such file; a run's folder or its metrics.jsonl is needed", path);
  if (!core::is_directory(path)) return path;
  if (!core::exists(path + "/metrics.jsonl") && !core::exists(path + "/config.resolved.yaml"))
    core::fail("{}: no run has written to this folder: it has neither metrics.jsonl nor config.resolved.yaml", path);
  return path + "/metrics.jsonl";
}

void RecentMean::add(double value) {
  values_[next_] = value;
  next_ = (next_ + 1) % values_.size();
  count_ = std::min(count_ + 1, values_.size());
}

double RecentMean::value() const {
  return std::accumulate(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(count_), 0.0) /
         (count_ > 0 ? static_cast<double>(count_) : NAN);
}

const ThinnedSeries* RunRecord::find(std::string_view key) const {
  const auto found = series.find(key);
  return found == series.end() ? nullptr : &found->second;
}

void RunRecord::add(const MetricLine& line) {
  if (line.step < 0 || !std::isfinite(line.step)) return;
  step = line.step;
  if (const double* saved = line.find("checkpoint")) {
    checkpoints.add({*saved, number_or(line, "checkpoint_bytes", 0), number_or(line, "checkpoint_blocked_seconds", 0),
                     number_or(line, "checkpoint_total_seconds", 0)});
    return;
  }
  for (const auto& [key, value] : line.numbers) {
    if (key == "step") continue;
    const std::size_t columns = key.find('.') == std::string::npos ? kColumns : kColumnsOfMany;
    append(series.try_emplace(key, columns).first->second, line.step, value);
  }
  for (const auto& [key, text] : line.texts) add_matrix(key, text);
  if (line.find("loss") != nullptr) add_step(line);
  if (const double* loss = line.find("val_loss"); loss != nullptr && std::isfinite(*loss))
    if (!best_validation || *loss < best_validation->y) best_validation = SeriesPoint{line.step, *loss};
  seconds = number_or(line, "seconds", seconds);
  tokens = number_or(line, "tokens", tokens);
  sent_bytes = number_or(line, "sent_bytes", sent_bytes);
}

// "spectra.NAME.kind" is a text of each matrix that was measured.
void RunRecord::add_matrix(std::string_view key, const std::string& kind) {
  constexpr std::string_view kBegin = "spectra.", kEnd = ".kind";
  if (!key.starts_with(kBegin) || !key.ends_with(kEnd) || key.size() <= kBegin.size() + kEnd.size()) return;
  const std::string_view matrix = key.substr(kBegin.size(), key.size() - kBegin.size() - kEnd.size());
  if (std::ranges::find(matrices, matrix, &std::pair<std::string, std::string>::first) == matrices.end())
    matrices.emplace_back(matrix, kind);
}

void RunRecord::add_step(const MetricLine& line) {
  recent_loss.add(*line.find("loss"));
  if (number_or(line, "skipped", 0) != 0) skipped.add(line.step);
  if (number_or(line, "spike", 0) != 0) spikes.add(line.step);
  const double whole = number_or(line, "step_seconds", NAN), all_tokens = number_or(line, "tokens", NAN);
  const double spectral = number_or(line, "spectral_seconds", 0),
               communication = number_or(line, "communication_seconds", 0);
  // What came before is not known of a file that starts amid a run.
  const bool known = last_tokens_ > 0 || line.step == 1;
  if (whole > 0 && known && all_tokens > last_tokens_)
    append(series.try_emplace("tokens_per_second", kColumns).first->second, line.step, (all_tokens - last_tokens_) / whole);
  if (all_tokens > 0) last_tokens_ = all_tokens;
  if (!(whole > 0)) return;
  append(series.try_emplace("other_seconds", kColumns).first->second, line.step,
         std::max(0.0, whole - spectral - communication));
  phases.step_seconds += whole;
  phases.spectral_seconds += spectral;
  phases.communication_seconds += communication;
  ++phases.steps;
}

RunReader::RunReader(const std::string& path) : lines_(metrics_file(path)) {
  record_.folder = core::is_directory(path) ? path : core::parent_directory(path);
  record_.name = name_of(record_.folder);
  read_records();
}

void RunReader::read_records() {
  const std::string config = record_.folder + "/config.resolved.yaml", start = record_.folder + "/start.json";
  if (core::exists(config)) record_.settings = read_settings(config);
  if (const auto steps = record_.settings.find("run.steps"); steps != record_.settings.end())
    record_.planned_steps = std::atof(steps->second.c_str());
  if (!core::exists(start)) return;
  try {
    record_.start = parse_start_record(core::read_file(start));
  } catch (const core::Error& error) {
    core::fail("{}: the file is damaged ({}); remove it to do without", start, error.what());
  }
}

const RunRecord& RunReader::read_on() {
  const auto forget = [this] {
    const std::string name = record_.name, folder = record_.folder;
    record_ = RunRecord();
    record_.name = name, record_.folder = folder;
    read_records();
  };
  lines_.read_on(forget, [this](const MetricLine& line) { record_.add(line); });
  return record_;
}

RunRecord read_run_record(const std::string& path) {
  RunReader reader(path);
  RunRecord record = reader.read_on();
  if (record.series.empty())
    core::fail("{}: there is nothing to show yet: no step of the run is in metrics.jsonl", record.folder);
  return record;
}

}  // namespace muonp::launch
