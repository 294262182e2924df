#include "launch/sweep/expansion.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/files/files.h"
#include "launch/train/run_config.h"

namespace muonp::launch {
namespace {

constexpr std::size_t kMostPoints = 100000, kLongestName = 80;

using Points = std::vector<Settings>;

// Every entry of `one` with every entry of `other` behind it.
Points product(const Points& one, const Points& other) {
  if (one.size() * other.size() > kMostPoints) core::fail("the sweep has more than {} settings", kMostPoints);
  Points all;
  for (const Settings& a : one)
    for (const Settings& b : other) {
      all.push_back(a);
      all.back().insert(all.back().end(), b.begin(), b.end());
    }
  return all;
}

Points points_of(const SearchSpace& space) {
  Points points = {{}};
  for (const SettingChoices& choices : space.grid) {
    Points values;
    for (const std::string& value : choices.values) values.push_back({{choices.path, value, choices.where}});
    points = product(points, values);
  }
  if (!space.list.empty()) points = product(points, space.list);
  if (space.draws > 0) points = product(points, random_draws(space));
  return points;
}

std::uint64_t hash_of(const std::string& text) { return core::hash_bytes(text.data(), std::ssize(text)); }

// For a folder: letters, digits and some signs; one dash for whatever else.
std::string as_name(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("._+").find(c) != std::string_view::npos;
    if (plain || (!name.empty() && name.back() != '-')) name += plain ? c : '-';
  }
  if (text.starts_with('-') && number_in(text)) name = std::string("-").append(name);
  while (name.size() > 1 && name.ends_with('-')) name.pop_back();
  return name;
}

// The last `parts` parts of a path.
std::string tail_of(const std::string& path, int parts) {
  std::size_t at = path.size();
  for (int i = 0; i < parts && at != std::string::npos; ++i) at = at == 0 ? std::string::npos : path.rfind('.', at - 1);
  return at == std::string::npos ? path : path.substr(at + 1);
}

std::map<std::string, std::string> labels_of(const std::set<std::string>& paths) {
  std::map<std::string, std::string> labels;
  for (const std::string& path : paths)
    for (int parts = 1; !labels.contains(path); ++parts) {
      const std::string label = tail_of(path, parts);
      const auto same =
          std::ranges::count_if(paths, [&](const std::string& other) { return tail_of(other, parts) == label; });
      if (same == 1 || label == path) labels[path] = label;
    }
  return labels;
}

// Of four digits, within the range.
std::string drawn(const RandomRange& range, std::int64_t seed, std::int64_t index) {
  const core::Random4 bits =
      core::philox(static_cast<std::uint64_t>(seed), hash_of(range.path), static_cast<std::uint64_t>(index));
  const double u = (static_cast<double>(bits.v[0]) + 0.5) * 0x1p-32;
  const double value =
      range.logarithmic ? range.low * std::pow(range.high / range.low, u) : range.low + (range.high - range.low) * u;
  const std::string text = fmt::format("{:.4g}", value);
  const double rounded = number_in(text).value_or(value);
  return rounded >= range.low && rounded <= range.high ? text : fmt::format("{}", rounded < value ? range.low : range.high);
}

void append(std::vector<std::string>& overrides, const Settings& settings) {
  for (const Setting& setting : settings) overrides.push_back(setting.assignment());
}

// All but what the sweep gives every run.
core::NamedValues values_of(RunConfig config) {
  core::NamedValues values = core::config_values([&](core::Fields& f) { config.describe(f); });
  std::erase_if(values, [](const core::NamedValue& v) {
    return v.name == kRunNamePath || v.name == kRunDirPath || v.name == kThreadsPath || v.name == kCachePath;
  });
  return values;
}

// What only a run's end would show otherwise.
void require_metric(const std::string& metric, const RunConfig& config) {
  if (metric == "val_loss" && config.data.validation.empty() && config.data.validation_fraction == 0)
    core::fail("metric: there is no val_loss without data.validation or data.validation_fraction");
  const auto names = [&](const TrainingTask& task) {
    return metric.starts_with(fmt::format("eval.{}.", task.task.title()));
  };
  if (metric.starts_with("eval.") && std::ranges::none_of(config.eval, names))
    core::fail("metric: {} is of no entry of eval", metric);
}

}  // namespace

std::vector<Settings> random_draws(const SearchSpace& space) {
  std::vector<Settings> draws;
  for (std::int64_t i = 0; std::ssize(draws) < space.draws; ++i) {
    if (i > 100 * space.draws)
      core::fail("{}: random: there are no {} different draws of four digits in these ranges", space.random.front().where,
                 space.draws);
    Settings draw;
    for (const RandomRange& range : space.random)
      draw.push_back({range.path, drawn(range, space.draw_seed, i), range.where});
    const bool known = std::ranges::any_of(
        draws, [&](const Settings& other) { return std::ranges::equal(draw, other, {}, &Setting::value, &Setting::value); });
    if (!known) draws.push_back(std::move(draw));
  }
  return draws;
}

Expansion::Expansion(SweepFile file) : file_(std::move(file)) {
  if (!core::exists(file_.base))
    core::fail("{}: base: {}: no such file; paths lead from the folder in which the command is started", file_.file,
               file_.base);
  make_points();
  name_points();
  make_runs();
}

void Expansion::make_points() {
  const Points common = points_of(file_.space);
  for (std::size_t arm = 0; arm < file_.arms.size(); ++arm)
    for (Settings& swept : product(common, points_of(file_.arms[arm].space))) points_.push_back({arm, std::move(swept), ""});
  std::set<std::string> paths;
  for (const SweepPoint& point : points_)
    for (const Setting& setting : point.swept) paths.insert(setting.path);
  labels_ = labels_of(paths);
}

// Names that several have, or that are too long for a folder, end in a hash of what they stand for.
void Expansion::name_points() {
  std::map<std::string, int> uses;
  for (SweepPoint& point : points_) {
    point.name = as_name(file_.arms[point.arm].name);
    for (const Setting& s : point.swept)
      point.name += fmt::format("{}{}-{}", point.name.empty() ? "" : "-", as_name(label(s.path)), as_name(s.value));
    if (point.name.empty()) point.name = "run";
    ++uses[point.name];
  }
  for (SweepPoint& point : points_) {
    if (uses[point.name] == 1 && point.name.size() <= kLongestName) continue;
    std::string all = file_.arms[point.arm].name;
    for (const Setting& s : point.swept) all.append("\n").append(s.assignment());
    point.name = fmt::format("{}-{:08x}", point.name.substr(0, kLongestName), hash_of(all) & 0xffffffff);
  }
}

void Expansion::make_runs() {
  std::map<std::string, std::string> known;  // by arm and configuration
  for (std::size_t p = 0; p < points_.size(); ++p) {
    for (const std::int64_t seed : file_.seeds) {
      SweepRun run = make_run(p, seed, false);
      std::string all = fmt::format("{}\n", points_[p].arm);
      for (const core::NamedValue& value : run.values) all += fmt::format("{}={}\n", value.name, value.value);
      if (const auto [same, added] = known.emplace(all, run.name); !added)
        core::fail("{}: {} and {} are the same run: their settings have the same values", file_.file, same->second,
                   run.name);
      runs_.push_back(std::move(run));
    }
  }
}

SweepRun Expansion::make_run(std::size_t point, std::int64_t seed, bool at_best) const {
  const SweepArm& arm = file_.arms[points_[point].arm];
  SweepRun run;
  run.point = point, run.seed = seed, run.at_best = at_best;
  run.name = fmt::format("{}{}-seed-{}", points_[point].name, at_best ? "-best" : "", seed);
  run.folder = file_.folder + "/" + run.name;
  append(run.overrides, file_.set);
  append(run.overrides, arm.set);
  append(run.overrides, points_[point].swept);
  if (at_best) append(run.overrides, file_.best_set);
  append(run.overrides, {{kRunSeedPath, fmt::format("{}", seed), ""},
                         {kThreadsPath, fmt::format("{}", file_.threads), ""},
                         {kRunDirPath, as_value(file_.folder), ""},
                         {kRunNamePath, as_value(run.name), ""}});
  try {
    const RunConfig config = load_run_config(file_.base, run.overrides);
    require_metric(file_.metric, config);
    // Beside the runs, and no run itself for `muonp compare FOLDER/*/`.
    if (config.data.cache.empty()) append(run.overrides, {{kCachePath, as_value(file_.folder + "/.cache"), ""}});
    run.steps = config.run.steps;
    run.passes_over_bad_steps = config.guard.spike == "skip";
    run.device = config.device;
    run.values = values_of(config);
  } catch (const core::Error& error) {
    const std::string where = arm.name.empty() ? "" : fmt::format("arm '{}': ", arm.name);
    core::fail("{}: {}{}", file_.file, where, error.what());
  }
  if (run.steps == 0) core::fail("{}: {}: run.steps is 0; a sweep compares what runs reach", file_.file, run.name);
  return run;
}

std::vector<SweepRun> Expansion::runs_at_best(std::size_t point) const {
  std::vector<SweepRun> runs;
  for (const std::int64_t seed : file_.best_seeds) runs.push_back(make_run(point, seed, !file_.best_set.empty()));
  return runs;
}

std::string Expansion::describe(const SweepPoint& point) const {
  std::string text;
  for (const Setting& s : point.swept) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", label(s.path), s.value);
  return text.empty() ? "-" : text;
}

}  // namespace muonp::launch
