// Everything a run is made from: the sections of the YAML file, each a plain struct with defaults. `muonp config
// --reference` prints them all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/config/config.h"
#include "core/data/config.h"
#include "launch/evaluation/task_config.h"
#include "launch/train/loss_guard.h"
#include "models/registry.h"
#include "optim/plan/config.h"
#include "optim/plan/schedule.h"

namespace muonp::launch {

struct RunSection {
  std::string name = "run";
  std::string dir = "runs";
  std::int64_t steps = -1;
  std::int64_t seed = 1;
  void describe(core::Fields& f);
};

struct ParallelSection {
  std::int64_t zero = 1;
  std::int64_t threads = 0;
  double bucket_mib = 25;
  double wave_mib = 0;
  bool overlap = false;
  std::int64_t prefetch = 1;
  std::string owners = "whole";
  std::string offload = "none";
  std::string transport = "nccl";
  bool check = false;
  double timeout_seconds = 30;
  std::string compute = "float32";
  bool emulate_bfloat16 = false;
  void describe(core::Fields& f);
};

struct CompressionSection {
  std::string to_owner = "none", to_workers = "none", others = "none", state_dtype = "float32";
  void describe(core::Fields& f);
};

struct CheckpointSection {
  std::int64_t every = 0;
  std::int64_t keep = 2;
  bool at_end = true;
  bool background = true;
  std::string resume = "auto";
  std::vector<std::string> allow;
  bool set_aside = false;
  void describe(core::Fields& f);

  // Saves amid training are written from a copy of the state. One at the end alone has nothing to run beside.
  bool copies_state() const { return background && every > 0; }
};

struct LogSection {
  std::int64_t every = 1;
  std::int64_t validate_every = 0;
  std::int64_t validation_batches = 0;
  std::int64_t hash_every = 0;
  std::int64_t spectra_every = 0;
  std::vector<std::string> spectra = {"*"};
  bool peak = true;
  bool report = false;
  void describe(core::Fields& f);
  // Of a step, counted from 1.
  bool measures_spectra(std::int64_t step) const { return spectra_every > 0 && step % spectra_every == 0; }
};

struct RunConfig {
  RunSection run;
  std::string device = "auto";
  core::DataConfig data;
  models::ModelConfig model;
  optim::OptimizerConfig optimizer;
  optim::ScheduleConfig schedule;
  ParallelSection parallel;
  CompressionSection compression;
  CheckpointSection checkpoint;
  GuardSection guard;
  LogSection log;
  std::vector<TrainingTask> eval;

  void describe(core::Fields& f);
  void validate() const;  // what no single field can say; core::Error names the keys

  std::string directory() const { return run.dir + "/" + run.name; }
  core::Dtype compute() const { return core::parse_dtype(parallel.compute); }
};

// Reads, overrides, validates.
RunConfig load_run_config(const std::string& file, std::span<const std::string> overrides,
                          core::Origin origin = core::Origin::by_hand);

}  // namespace muonp::launch
