// Makes updated weights whole while the next forward pass begins: the all-gather of a bucket runs beside the compute
// queue, and who reads a weight of the bucket waits for it first.
#pragma once

#include <unordered_map>
#include <vector>

#include "core/autograd.h"
#include "dist/async.h"
#include "dist/sharded_parameters.h"

namespace muonp::dist {

class WeightGatherer final : public core::WeightSource {
 public:
  WeightGatherer(const ShardedParameters& parameters, Communicator& communicator, AsyncQueue& async);

  // Starts the all-gather of a bucket whose own part is up to date; at stage 0 there is nothing to gather. All ranks in
  // the same order.
  void start(int bucket);
  // The parameter's bucket is whole for work that the device's queue is given from now on.
  void acquire(core::Parameter& parameter) override;
  void finish();  // all buckets

 private:
  const ShardedParameters& parameters_;
  Communicator& communicator_;
  AsyncQueue& async_;
  std::unordered_map<const core::Parameter*, int> bucket_of_;
  std::vector<AsyncQueue::Ticket> in_flight_;  // by bucket
};

}  // namespace muonp::dist
