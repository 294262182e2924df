// A sweep's runs: what a file says, multiplied out. The same file gives the same runs with the same names, so that a sweep
// that was stopped finds its runs again; more draws of `random` leave the first ones as they are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "launch/sweep/sweep_file.h"

namespace muonp::launch {

// An arm with one value for each path that it varies.
struct SweepPoint {
  std::size_t arm = 0;  // of SweepFile::arms
  Settings swept;
  std::string name;  // part of its runs' names
};

struct SweepRun {
  std::size_t point = 0;
  std::int64_t seed = 0;
  bool at_best = false;  // with best.set
  std::string name, folder;
  std::vector<std::string> overrides;  // what `muonp train` is given beside the base
  core::NamedValues values;            // the whole configuration but for what the sweep itself gives every run
  std::int64_t steps = 0;
  bool passes_over_bad_steps = false;  // guard.spike: skip
  std::string device;
};

class Expansion {
 public:
  // Reads the base with each run's settings. Error: a setting that the configuration refuses, with the arm; two runs of an
  // arm that are the same; no step to compare after.
  explicit Expansion(SweepFile file);

  const SweepFile& file() const { return file_; }
  const std::vector<SweepPoint>& points() const { return points_; }
  // Every point with every seed.
  const std::vector<SweepRun>& runs() const { return runs_; }
  // Those at a point with best.seeds: runs of their own where best.set says something, else of runs() where the seed is.
  std::vector<SweepRun> runs_at_best(std::size_t point) const;
  // How paths are called where they are shown: "lr" where that names one path only.
  const std::string& label(const std::string& path) const { return labels_.at(path); }
  // "lr 0.01, momentum 0.9"; "-" for a point that varies nothing.
  std::string describe(const SweepPoint& point) const;

 private:
  void make_points();
  void name_points();
  void make_runs();
  SweepRun make_run(std::size_t point, std::int64_t seed, bool at_best) const;

  SweepFile file_;
  std::vector<SweepPoint> points_;
  std::vector<SweepRun> runs_;
  std::map<std::string, std::string> labels_;
};

// The draws of `space.random`, in order.
std::vector<Settings> random_draws(const SearchSpace& space);

}  // namespace muonp::launch
