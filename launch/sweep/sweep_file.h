// The file that says a sweep: docs/sweep.md has every key. Read whole, and checked as far as one can without the runs' own
// configuration.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launch/sweep/settings.h"

namespace muonp::launch {

struct RandomRange {
  std::string path;
  double low = 0, high = 0;
  bool logarithmic = true;
  std::string where;
};

// What is tried: every combination of a value of each `grid` path, an entry of `list`, and a draw of `random`.
struct SearchSpace {
  std::vector<SettingChoices> grid;
  std::vector<Settings> list;
  std::vector<RandomRange> random;
  std::int64_t draws = 0, draw_seed = 1;

  Settings examples() const;  // one value of every path that it varies
};

// A named setting with a space of its own, beside that of the whole sweep.
struct SweepArm {
  std::string name;  // empty: the only one, of a file without arms
  Settings set;
  SearchSpace space;
};

enum class Reduction : std::uint8_t { last, best, tail };  // tail: the mean of the last twentieth

struct SweepFile {
  std::string file, base, folder, title;
  Settings set;
  SearchSpace space;
  std::vector<SweepArm> arms;             // at least one
  std::vector<std::int64_t> seeds = {1};  // of every setting
  std::vector<std::int64_t> best_seeds;   // of each arm's best one; empty: none
  Settings best_set;

  std::string metric = "val_loss";
  Reduction reduction = Reduction::last;
  bool lower_is_better = true;
  std::string axis;               // empty: chosen (launch/sweep/summary.h)
  std::vector<std::string> also;  // further metrics, by their last values

  std::int64_t threads = 1;  // of a rank
  std::int64_t jobs = 0;     // runs side by side, at most; 0: as many as there are cores for
  std::int64_t ranks = 0;    // of a run; 0: no launcher
  std::string launcher = "launch/mpirun.sh";
};

// `overrides` ("path=value") stand above the file's `set`. Error names file, line and key.
SweepFile read_sweep_file(const std::string& file, std::span<const std::string> overrides = {});
SweepFile parse_sweep(const std::string& yaml, const std::string& file, std::span<const std::string> overrides = {});

// Paths that the sweep gives values to itself.
inline constexpr const char *kRunDirPath = "run.dir", *kRunNamePath = "run.name", *kRunSeedPath = "run.seed",
                            *kThreadsPath = "parallel.threads", *kCachePath = "data.cache";

}  // namespace muonp::launch
