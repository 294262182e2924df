// What a pass of a model does, operation by operation, for the prediction of a step: from what the model says it reads, and
// from its own counts of operations and bytes.
#pragma once

#include "models/model.h"
#include "optim/plan/step_model.h"

namespace muonp::launch {

struct PassShape {
  std::int64_t batch = 0, time = 0;  // sequences of a micro-batch, tokens of each
  std::int64_t head_size = 0;        // of attention
  core::Dtype type = core::Dtype::float32;
  std::int64_t kept_bytes = 0;  // activations of a pass that recomputes nothing
};

// Products are those of the weights that an operation reads, and a share of attention's; of the bytes that move beside them
// each operation has a share by its outputs. The backward pass multiplies twice, once for what is frozen, and what is
// recomputed is computed again in its place.
optim::PassWork pass_work(models::LanguageModel& model, const PassShape& shape, const dist::HostRates& rates);

}  // namespace muonp::launch
