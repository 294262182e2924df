// Predictions of a run on a cluster: of the configuration as it is, of other schemes beside it, and of the settings that are
// fastest. Nothing is started or allocated. docs/planner.md says what is searched and how.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dist/plan/cluster.h"
#include "launch/train/start_report.h"
#include "optim/plan/step_model.h"

namespace muonp::launch {

// What `muonp plan --best` may change.
struct PlanSettings {
  std::int64_t zero = 1, micro_batch = 0, prefetch = 1;
  bool recompute = false;
  double bucket_mib = 25, wave_mib = 0;
  std::string owners = "whole";
  bool operator==(const PlanSettings&) const = default;
};
PlanSettings settings_of(const RunConfig& config, const BatchPlan& batches);
RunConfig with(RunConfig config, const PlanSettings& settings);
// "--set parallel.zero=2 --set data.micro_batch=8": what `to` has otherwise than `from`; empty where nothing.
std::string overrides(const PlanSettings& from, const PlanSettings& to);

struct MemoryForecast {  // of the rank that needs most
  int rank = 0;
  optim::ExecutionPlan::Bytes bytes;
  std::int64_t activations = 0, snapshot = 0;  // the latter is in a CPU's total alone
  std::int64_t total = 0;
};

struct Forecast {
  std::string name;  // of the scheme
  PlanSettings settings;
  optim::StepPrediction step;
  MemoryForecast memory;
  double imbalance = 1;  // of owners, largest load / mean
  bool fits = true;      // in the memory of a rank
  double tokens = 0;     // of a step, all ranks
  double tokens_per_second() const { return tokens / step.seconds(); }
};

class Planner {
 public:
  // `config` as from resolve(). Error where the cluster has no such ranks, or they do not share out the batch.
  Planner(const RunConfig& config, const dist::Cluster& cluster, int ranks);
  ~Planner();

  int ranks() const { return view_.ranks(); }
  double memory_of_rank() const { return view_.memory_of_rank(); }
  // The configuration as it is.
  Forecast as_configured();
  // Replicated Muon, owners that send weights to all, momenta that all gather; then this program's: each stage, and each
  // compressor at the configured stage or 1.
  std::vector<Forecast> schemes();
  // The fastest that fits, or nothing.
  std::optional<Forecast> best();
  // Where `forecast` does not fit: the fastest that fits of those that change one setting, or else of all.
  std::optional<Forecast> that_fits(const Forecast& forecast);

 private:
  struct Planned;
  Planned& planned(const RunConfig& config);
  MemoryForecast memory(const Planned& planned, const RunConfig& config, const BatchPlan& batches) const;
  bool fits(const MemoryForecast& memory) const { return static_cast<double>(memory.total) <= memory_of_rank(); }
  Forecast forecast(const RunConfig& config, std::string name, optim::StepScheme scheme = optim::StepScheme::sharded);
  std::optional<Forecast> faster(std::optional<Forecast> best, const PlanSettings& settings);
  std::optional<Forecast> refine(Forecast best);
  std::vector<std::int64_t> stages() const;
  std::vector<std::int64_t> micro_batches() const;
  Forecast baseline(optim::StepScheme scheme);

  RunConfig config_;
  dist::ClusterView view_;
  BatchPlan batches_;
  core::DeviceKind device_;
  std::unique_ptr<models::LanguageModel> plain_;             // that recomputes nothing
  std::map<std::string, std::unique_ptr<Planned>> planned_;  // by the settings that a plan depends on
};

}  // namespace muonp::launch
