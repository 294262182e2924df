// Weights that nothing moves: in the compute dtype, sharded by ZeRO as the others are. They have no master, no gradient and
// no state, are in no checkpoint, and cross the network only to be gathered.
#pragma once

#include <memory>
#include <span>

#include "dist/comm/async.h"
#include "dist/zero/weight_gatherer.h"
#include "optim/plan/execution_plan.h"

namespace muonp::optim {

class FrozenWeights final : public core::WeightSource {
 public:
  // `parameters`: those of plan.frozen, which has a value. They are allocated here and undefined until filled().
  FrozenWeights(core::Device& device, core::ParameterList parameters, const ExecutionPlan& plan,
                dist::Communicator& communicator, dist::AsyncQueue& async);

  // Values of what this rank keeps of a parameter, and when all have theirs, which is collective.
  void fill(int parameter, const core::WeightFiller& fill) { parameters_.fill(parameter, fill); }
  void filled() { parameters_.publish(communicator_); }
  const core::ParameterList& parameters() const { return parameters_.parameters(); }

  // As a dist::WeightGatherer; below stage 3 weights are whole always.
  void begin_pass(bool backward);
  void acquire(std::span<core::Parameter* const> parameters) override;
  void finish();

  std::uint64_t weights_hash() { return parameters_.weights_hash(communicator_); }  // collective

 private:
  dist::Communicator& communicator_;
  dist::ShardedParameters parameters_;
  std::unique_ptr<dist::PassGatherer> gatherer_;  // stage 3
};

}  // namespace muonp::optim
