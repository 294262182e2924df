// Times of a communicator's operations, and whether their results are right: what `muonp bench collectives` shows and a
// cluster file is made from. Sizes and bandwidths as nccl-tests has them (docs/benchmarks.md).
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/device.h"
#include "dist/comm/operation.h"
#include "launch/bench/timing.h"

namespace muonp::launch {

struct CollectiveCase {
  dist::OperationKind kind = dist::OperationKind::all_reduce;
  core::Dtype dtype = core::Dtype::float32;  // of the spans; values are doubles, strings bytes
  dist::Reduce reduce = dist::Reduce::sum;
  std::int64_t bytes = 0;  // of the whole span, before it is rounded up to equal slices
};

struct CollectiveResult {
  CollectiveCase what;
  std::int64_t count = 0, bytes = 0;  // of elements; of the whole span
  Timing timing;
  std::int64_t wrong = 0;  // elements, of all ranks, of a call before the timed ones and of one after them
  bool in_place = true;    // an exchange has another buffer to receive

  double algorithm_bandwidth() const { return static_cast<double>(bytes) / timing.median; }
  // × 2(N−1)/N for all_reduce, (N−1)/N for reduce_scatter, all_gather and exchange, 1 for broadcast.
  double bus_bandwidth(int ranks) const;
};

// Collective: all ranks give the same case and get the same result.
CollectiveResult run_collective(dist::Communicator& communicator, core::Device& device, const CollectiveCase& what,
                                double budget_seconds);

// Every operation: barrier, broadcast, all_reduce by sum, max and min, of doubles, reduce_scatter, all_gather, exchange with
// everyone, strings; of each type that is given, at sizes from `least` to `most` bytes by factors of `factor`.
std::vector<CollectiveCase> all_collectives(std::span<const core::Dtype> types, std::int64_t least, std::int64_t most,
                                            std::int64_t factor);

}  // namespace muonp::launch
