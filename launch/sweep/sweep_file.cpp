#include "launch/sweep/sweep_file.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "core/base/error.h"
#include "core/config/config_values.h"
#include "core/files/files.h"
#include "launch/program/session.h"
#include "launch/sweep/section_reader.h"

namespace muonp::launch {

using core::config::Tree;

namespace {

constexpr core::IntegerRange kMostJobs{.min = 0, .max = 1024}, kMostRanks{.min = 0, .max = 65536};
constexpr core::IntegerRange kDraws{.min = 1, .max = 100000}, kSeed{.min = 0};

void read_ranges(SectionReader& random, const char* key, bool logarithmic, std::vector<RandomRange>& ranges) {
  const Tree* section = random.section(key);
  if (section == nullptr) return;
  for (const SettingChoices& choice : choices_in(*section)) {
    const std::string text = fmt::format("[{}]", fmt::join(choice.values, ", "));
    const auto low = number_in(choice.values.front()), high = number_in(choice.values.back());
    if (choice.values.size() != 2 || !low || !high || *low >= *high)
      core::fail("{}: {}: expected [lowest, highest], two numbers, found {}", choice.where, choice.path, text);
    if (logarithmic && *low <= 0)
      core::fail("{}: {}: a range with even logarithms lies above 0, found {}", choice.where, choice.path, text);
    ranges.push_back({choice.path, *low, *high, logarithmic, choice.where});
  }
}

void read_random(SectionReader& reader, SearchSpace& space) {
  const Tree* tree = reader.section("random");
  if (tree == nullptr) return;
  SectionReader random(*tree, "random");
  space.draws = random.integer("count", 0, kDraws);
  space.draw_seed = random.integer("seed", 1, kSeed);
  read_ranges(random, "log", true, space.random);
  read_ranges(random, "uniform", false, space.random);
  random.finish();
  if (space.random.empty())
    core::fail("{}: random: nothing is drawn; give log: or uniform: a path: [lowest, highest]", tree->where);
}

SearchSpace read_space(SectionReader& reader) {
  SearchSpace space;
  if (const Tree* grid = reader.section("grid")) {
    space.grid = choices_in(*grid);
    if (space.grid.empty()) core::fail("{}: grid: it is empty; give a path: [values]", grid->where);
  }
  if (const Tree* list = reader.list("list")) {
    for (const Tree& entry : list->items) {
      if (entry.kind != Tree::Kind::section || entry.keys.empty())
        core::fail("{}: list: expected settings (path: value), found {}", entry.where, entry.found());
      space.list.push_back(settings_in(entry));
    }
    if (space.list.empty()) core::fail("{}: list: it is empty; give settings (path: value)", list->where);
  }
  read_random(reader, space);
  return space;
}

SweepArm read_arm(const Tree& tree, std::size_t index) {
  SectionReader reader(tree, fmt::format("arms.{}", index));
  SweepArm arm;
  arm.name = reader.text("name", "");
  if (arm.name.empty()) core::fail("{}: arms.{}: it needs a name", tree.where, index);
  if (const Tree* set = reader.section("set")) arm.set = settings_in(*set);
  arm.space = read_space(reader);
  reader.finish();
  return arm;
}

std::vector<SweepArm> read_arms(SectionReader& reader) {
  const Tree* list = reader.list("arms");
  if (list == nullptr) return {SweepArm{}};
  std::vector<SweepArm> arms;
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    arms.push_back(read_arm(list->items[i], i));
    for (std::size_t j = 0; j < i; ++j)
      if (arms[j].name == arms[i].name) core::fail("{}: arms: '{}' is there twice", list->items[i].where, arms[i].name);
  }
  if (arms.empty()) core::fail("{}: arms: the list is empty", list->where);
  return arms;
}

std::vector<std::int64_t> read_seeds(SectionReader& reader, std::vector<std::int64_t> otherwise) {
  const Tree* list = reader.list("seeds");
  if (list == nullptr) return otherwise;
  std::vector<std::int64_t> seeds;
  for (const Tree& item : list->items) {
    const auto [seed, problem] = core::config::read_integer(item.kind == Tree::Kind::scalar ? item.scalar : "", kSeed);
    if (!seed) core::fail("{}: seeds: {}", item.where, item.kind == Tree::Kind::scalar ? problem : "found " + item.found());
    if (std::ranges::count(seeds, *seed) > 0) core::fail("{}: seeds: {} is there twice", item.where, *seed);
    seeds.push_back(*seed);
  }
  if (seeds.empty()) core::fail("{}: seeds: the list is empty", list->where);
  return seeds;
}

void read_best(SectionReader& reader, SweepFile& sweep) {
  const Tree* tree = reader.section("best");
  if (tree == nullptr) return;
  SectionReader best(*tree, "best");
  sweep.best_seeds = read_seeds(best, {});
  if (sweep.best_seeds.empty()) core::fail("{}: best: it needs seeds, as in [1, 2, 3]", tree->where);
  if (const Tree* set = best.section("set")) sweep.best_set = settings_in(*set);
  best.finish();
}

void read_measure(SectionReader& reader, SweepFile& sweep) {
  static constexpr std::array<std::string_view, 3> reductions = {"last", "best", "tail"};
  static constexpr std::array<std::string_view, 2> directions = {"lower", "higher"};
  sweep.metric = reader.text("metric", sweep.metric);
  sweep.reduction = static_cast<Reduction>(reader.choice("value", reductions));
  sweep.lower_is_better = reader.choice("better", directions) == 0;
  sweep.axis = reader.text("axis", "");
  sweep.title = reader.text("title", "");
  sweep.also = reader.texts("also");
}

void read_running(SectionReader& reader, SweepFile& sweep) {
  sweep.threads = reader.integer("threads", sweep.threads, {.min = 1, .max = kThreads.max});
  sweep.jobs = reader.integer("jobs", sweep.jobs, kMostJobs);
  sweep.ranks = reader.integer("ranks", sweep.ranks, kMostRanks);
  sweep.launcher = reader.text("launcher", sweep.launcher);
  if (sweep.launcher.find_first_not_of(" \t") == std::string::npos)
    core::fail("{}: launcher is empty; it is the command that starts ranks, as launch/mpirun.sh", sweep.file);
}

// Those of the command line in the place of the file's.
void override_settings(Settings& set, std::span<const std::string> overrides) {
  Settings given;
  for (const std::string& assignment : overrides)
    for (Setting& setting : settings_in(core::config::parse_override(assignment))) given.push_back(std::move(setting));
  for (const Setting& setting : given)
    std::erase_if(set, [&](const Setting& old) { return paths_collide(old.path, setting.path); });
  for (const Setting& setting : given) {
    std::erase_if(set, [&](const Setting& earlier) { return earlier.path == setting.path; });
    set.push_back(setting);
  }
}

void require_free(const Setting& setting) {
  const auto refuse = [&](const char* path, const char* instead) {
    if (paths_collide(setting.path, path))
      core::fail("{}: {}: the sweep gives {} to each run itself; {}", setting.where, setting.path, path, instead);
  };
  refuse(kRunDirPath, "'folder' says where the runs go");
  refuse(kRunNamePath, "it is made of what the run tries");
  refuse(kRunSeedPath, "'seeds' says which");
  refuse(kThreadsPath, "'threads' says how many");
}

void require_apart(const Settings& one, const Settings& other) {
  for (const Setting& a : one)
    for (const Setting& b : other)
      if (paths_collide(a.path, b.path))
        core::fail("{}: {} is given at {} too ({}); a run needs one place that says it", b.where, b.path, a.where, a.path);
}

// No path is given in two places of one run. What runs at the best have differently may replace what is set.
void require_one_place(const SweepFile& sweep) {
  const Settings common = sweep.space.examples();
  for (const Settings* settings : {&sweep.set, &common, &sweep.best_set})
    for (const Setting& setting : *settings) require_free(setting);
  require_apart(sweep.set, common);
  require_apart(common, sweep.best_set);
  for (const SweepArm& arm : sweep.arms) {
    const Settings own = arm.space.examples();
    for (const Settings* settings : {&arm.set, &own})
      for (const Setting& setting : *settings) require_free(setting);
    require_apart(sweep.set, arm.set);
    require_apart(common, arm.set);
    for (const Settings* settings : {&sweep.set, &common, &arm.set, &sweep.best_set}) require_apart(*settings, own);
  }
}

}  // namespace

Settings SearchSpace::examples() const {
  Settings all;
  for (const SettingChoices& choices : grid) all.push_back({choices.path, choices.values.front(), choices.where});
  for (const Settings& entry : list)
    for (const Setting& setting : entry)
      if (std::ranges::find(all, setting.path, &Setting::path) == all.end()) all.push_back(setting);
  for (const RandomRange& range : random) all.push_back({range.path, fmt::format("{}", range.low), range.where});
  return all;
}

SweepFile parse_sweep(const std::string& yaml, const std::string& file, std::span<const std::string> overrides) {
  SweepFile sweep;
  sweep.file = file;
  const Tree tree = core::config::parse_tree(yaml, file);
  if (tree.kind == Tree::Kind::null) core::fail("{}: the file is empty; 'muonp sweep --help' has an example", file);
  SectionReader reader(tree, "");
  sweep.base = reader.text("base", "");
  if (sweep.base.empty()) core::fail("{}: base: missing; it is the configuration that every run starts from", file);
  sweep.folder = reader.text("folder", "runs/" + std::filesystem::path(file).stem().string());
  if (const Tree* set = reader.section("set")) sweep.set = settings_in(*set);
  override_settings(sweep.set, overrides);
  sweep.space = read_space(reader);
  sweep.arms = read_arms(reader);
  sweep.seeds = read_seeds(reader, sweep.seeds);
  read_best(reader, sweep);
  read_measure(reader, sweep);
  read_running(reader, sweep);
  reader.finish();
  require_one_place(sweep);
  return sweep;
}

SweepFile read_sweep_file(const std::string& file, std::span<const std::string> overrides) {
  return parse_sweep(core::read_file(file), file, overrides);
}

}  // namespace muonp::launch
