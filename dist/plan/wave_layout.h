// Where the matrices that a rank owns whole of a wave lie in one piece of memory: those whose rows have one length beside
// each other, so that matrices of one shape, and parts of larger ones, are one batch as they lie. Each begins at a multiple
// of 256 bytes: where the matrices' sizes are multiples of that too there is no gap.
#pragma once

#include <cstdint>
#include <map>

#include "dist/plan/owner_plan.h"

namespace muonp::dist {

struct WaveLayout {
  std::map<int, std::int64_t> begins;  // by task, in elements of float32
  std::int64_t elements = 0;           // of all
};
WaveLayout layout_of(const ShardPlan& shards, const OwnerPlan& owners, int rank, int wave);

}  // namespace muonp::dist
