// What frozen weights, and factors of adapters, add to an execution plan.
#pragma once

#include <vector>

#include "optim/plan/execution_plan.h"

namespace muonp::optim {

// Fills in what the plan says of frozen parameters, and how much is whole at one time at stage 3; what is trained is
// planned.
void plan_frozen(const core::ParameterList& model, ExecutionPlan& plan, int world_size);

// ExecutionPlan::partners of the sharded parameters.
std::vector<int> partners_of(const core::ParameterList& sharded, const Groups& groups);

}  // namespace muonp::optim
