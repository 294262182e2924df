// Which ranks share a matrix, so that none has much more to do than the others. A pure function of its arguments.
#pragma once

#include <vector>

#include "dist/plan/owner_plan.h"

namespace muonp::dist {

struct GroupPlace {  // ranks [first, first + size)
  int first = 0, size = 1;
};

// By task. The costliest first, each to the smallest group (of at least `least` ranks where the task can have so many) that
// then has no more than `balance` times the mean load, and of those of one size to the one whose busiest rank has least to
// do. Where that fails, with the next larger balance that does not.
std::vector<GroupPlace> pack_groups(const std::vector<MatrixTask>& tasks, int world_size, int least, double balance);

}  // namespace muonp::dist
