// ZeRO 3: which buckets of weights are whole when. They are gathered ahead of the operations that read them and released
// after. A pure function of its arguments: every rank gathers the same buckets in the same order.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "dist/plan/shard_plan.h"

namespace muonp::dist {

class GatherPlan {
 public:
  // One or more operations that read the same buckets, and what happens before the first of them: buckets that are not
  // about to be read are released, gathers of those that are begin, and those of `read` are waited for.
  struct Stop {
    std::vector<int> read, release, gather;  // buckets
    std::int64_t held = 0;                   // elements of buckets that are whole, or on their way, from here on
  };
  struct Pass {
    std::vector<Stop> stops;
    std::int64_t gathered = 0;   // elements of all gathers, with padding
    std::int64_t most_held = 0;  // elements of whole buckets at one time, with padding
  };

  // What a pass reads, in order: the parameters, as numbered in the shard plan, that one operation reads at once.
  using Reads = std::vector<std::vector<int>>;

  // Beside the buckets that are read, the next `prefetch` different ones that will be are whole or on their way.
  GatherPlan(const ShardPlan& shards, const Reads& forward, const Reads& backward, int prefetch);

  const Pass& forward() const { return forward_; }  // a forward pass alone
  // Forward, then backward: what is still held at the turn is not gathered again.
  const Pass& training() const { return training_; }
  std::string describe() const;

  // Elements of whole buckets at one time, by operation of a training pass. Two plans of other parameters each take turns:
  // every operation reads of the one, then of the other, which may be null. `reads`: what an operation reads of each.
  static std::vector<std::int64_t> held_together(const GatherPlan& first, const GatherPlan* second,
                                                 const std::vector<std::pair<std::vector<int>, std::vector<int>>>& reads);

 private:
  std::vector<int> buckets_of(const std::vector<int>& parameters) const;

  std::vector<int> bucket_of_;  // by parameter
  Pass forward_, training_;
};

}  // namespace muonp::dist
