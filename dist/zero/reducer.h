// Gradients: written by the backward pass, summed over micro-batches and ranks, kept where the plan says.
//
// The reduction of a bucket starts as soon as its last gradient is complete, while the backward pass goes on
// (AsyncQueue). Buckets are reduced in plan order on every rank, whatever order their gradients finish in.
//
//   stage 0     whole buckets, all-reduced in the last pass; the whole sum is kept
//   stage 1     whole buckets, reduce-scattered in the last pass; the slice is kept
//   stage 2, 3  a bucket exists only from its first gradient to its reduction, in every pass; slices accumulate
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "core/autograd/autograd.h"
#include "dist/comm/async.h"
#include "dist/comm/communicator.h"
#include "dist/zero/sharded_parameters.h"

namespace muonp::dist {

// Whole buckets that stages 2 and 3 hold at most: the one being filled and, with overlap, two that wait for their
// reduction. (A tied weight, used at both ends of the model, keeps its bucket open beside them.)
constexpr int whole_buckets_alive(bool overlap) { return overlap ? 3 : 1; }

class GradientReducer final : public core::GradientSink {
 public:
  GradientReducer(core::Device& device, const ShardedParameters& parameters, Communicator& communicator, AsyncQueue& async,
                  bool overlap);

  // Before each backward pass. first: forget earlier gradients; last: after it the sum over ranks is wanted.
  void begin_pass(bool first, bool last);
  core::GradientSlot slot(core::Parameter& parameter) override;
  void complete(core::Parameter& parameter) override;
  // After the last pass, once: waits for all reductions. InternalError if a pass is missing or incomplete.
  void finish();

  // Elements of whole buckets that stages 2 and 3 hold at most while the backward pass undoes each of `reads`, one by one
  // from the last to the first, which are of these parameters and of others that the plan leaves out.
  static std::vector<std::int64_t> whole_by_operation(const ShardPlan& plan, const core::ParameterList& parameters,
                                                      const core::WeightReads::List& reads, bool overlap);

  // Sum over passes and ranks of kept(parameter); 1-D float32, valid after finish(), may be written to.
  core::Tensor reduced(int parameter) const;

 private:
  enum class State : std::uint8_t { idle, in_pass, reduced, finished };
  struct InFlight {
    int bucket;
    AsyncQueue::Ticket ticket;
  };

  core::Tensor& full_bucket(int bucket);
  void launch(int bucket);
  void retire();  // the oldest reduction in flight
  bool sharded() const { return parameters_.zero().reduces_each_pass; }
  bool reduces() const { return last_ || sharded(); }

  core::Device& device_;
  const ShardedParameters& parameters_;
  Communicator& communicator_;
  AsyncQueue& async_;
  bool overlap_;
  std::unordered_map<const core::Parameter*, int> index_;

  State state_ = State::idle;
  bool first_ = false, last_ = false;
  std::vector<core::Tensor> full_;    // by bucket; sharded: only while in use
  std::vector<core::Tensor> slices_;  // by bucket; sharded
  std::vector<bool> written_;         // by parameter: its slot in full_ holds something to add to
  std::vector<int> missing_;          // by bucket: parameters not complete in this pass
  int next_bucket_ = 0;               // buckets below it have been launched in this pass
  std::deque<InFlight> in_flight_;
};

}  // namespace muonp::dist
