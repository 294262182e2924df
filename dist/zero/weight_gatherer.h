// Makes weights whole for who reads them: once after each step (ZeRO 0, 1, 2), or in every pass for as long as they are
// read (ZeRO 3). All ranks call the same in the same order.
#pragma once

#include <unordered_map>
#include <vector>

#include "core/autograd/autograd.h"
#include "dist/comm/async.h"
#include "dist/plan/gather_plan.h"
#include "dist/zero/sharded_parameters.h"

namespace muonp::dist {

class WeightGatherer : public core::WeightSource {
 public:
  // Before a forward pass, or before a forward and backward pass.
  virtual void begin_pass(bool backward) = 0;
  // This rank's part of a bucket is up to date.
  virtual void updated(int bucket) = 0;
  // No gather is in flight when this returns; on a GPU, for work that the device's queue is given from now on.
  virtual void finish() = 0;
};

// The all-gather of an updated bucket runs beside the compute queue, while the next forward pass begins, and who reads a
// weight of the bucket waits for it first. At stage 0 there is nothing to gather.
class StepGatherer final : public WeightGatherer {
 public:
  StepGatherer(const ShardedParameters& parameters, Communicator& communicator, AsyncQueue& async);
  void begin_pass(bool) override {}
  void updated(int bucket) override;
  void acquire(std::span<core::Parameter* const> parameters) override;
  void finish() override;

 private:
  const ShardedParameters& parameters_;
  Communicator& communicator_;
  AsyncQueue& async_;
  std::unordered_map<const core::Parameter*, int> bucket_of_;
  std::vector<AsyncQueue::Ticket> in_flight_;  // by bucket
};

// A bucket is whole while the plan says so. Parameters of all others have no value, so that nothing reads what is out of
// date. InternalError if weights are read outside a pass, or in another order than the plan's.
class PassGatherer final : public WeightGatherer {
 public:
  PassGatherer(ShardedParameters& parameters, const GatherPlan& plan, Communicator& communicator, AsyncQueue& async);
  void begin_pass(bool backward) override;
  void updated(int) override {}
  void acquire(std::span<core::Parameter* const> parameters) override;
  void finish() override;  // ends the pass; everything is released

 private:
  bool reads(const GatherPlan::Stop& stop, std::span<core::Parameter* const> parameters) const;
  void enter(const GatherPlan::Stop& stop);

  ShardedParameters& parameters_;
  const GatherPlan& plan_;
  Communicator& communicator_;
  AsyncQueue& async_;
  std::unordered_map<const core::Parameter*, int> bucket_of_;
  const GatherPlan::Pass* pass_ = nullptr;  // null outside a pass
  std::size_t entered_ = 0;                 // stops of it so far
  struct Whole {
    int bucket;
    AsyncQueue::Ticket gathered;
  };
  std::vector<Whole> whole_;
};

}  // namespace muonp::dist
