// Matrices that ranks share (dist/plan/owner_plan.h): which can be, and what they send.
#pragma once

#include <cstdint>
#include <vector>

#include "core/autograd/parameter.h"
#include "dist/plan/owner_plan.h"
#include "dist/plan/shard_plan.h"
#include "optim/plan/groups.h"

namespace muonp::optim {

// Where ranks can share a parameter: its matrices, and between how many.
void let_share(dist::MatrixTask& task, const MatrixStep& step, const core::Parameter& p, const Split* split);

// What the ranks that share a matrix take of each other, of all its products; the matrix is one that is shared.
spectral::SharedWork shared_work(const dist::OwnerPlan& owners, const Groups& groups,
                                 const std::vector<dist::ParameterSpec>& specs, core::DeviceKind device, int task);
// The bytes of that of all matrices.
double shared_bytes_sent(const dist::OwnerPlan& owners, const Groups& groups, const std::vector<dist::ParameterSpec>& specs,
                         core::DeviceKind device);

// Of a matrix, what its owner, or its owners of their parts, have in their own pieces.
std::int64_t own_elements(const dist::OwnerPlan& owners, const dist::ShardPlan& shards, int task);

}  // namespace muonp::optim
