// What will run, before it runs: the tables that `muonp train` starts with and `muonp plan` prints.
#pragma once

#include <string>

#include "launch/train/learner.h"

namespace muonp::launch {

struct StartFacts {
  const RunConfig& config;
  models::LanguageModel& model;
  const optim::ExecutionPlan& plan;
  const BatchPlan& batches;
  std::string device, ranks, data;  // one line each; data may be empty (not opened)
  double peak = 0;                  // flop/s of one rank's matrix products; 0: not measured

  models::PassShape pass_shape() const {
    return {batches.micro_batch, config.data.sequence, plan.options.weight_dtype, plan.options.device, config.data.packing};
  }
  std::int64_t activation_bytes() const {  // of one micro-batch
    return model.activation_bytes(pass_shape());
  }
  std::int64_t pass_bytes() const {  // these and whole buckets, at one time
    return plan.pass_bytes(model.stretches(pass_shape()));
  }
  std::int64_t snapshot_bytes(int rank) const {  // host memory; 0 where nothing is saved in the background
    return config.checkpoint.copies_state() ? plan.snapshot_bytes(rank) : 0;
  }
};

std::string start_report(const StartFacts& facts);

// Bytes a rank allocates at its peak in a step, as ExecutionPlan::peak_bytes.
std::int64_t planned_peak_bytes(const StartFacts& facts, int rank);

}  // namespace muonp::launch
