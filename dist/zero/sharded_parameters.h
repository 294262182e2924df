// The memory of a model's parameters on one rank, laid out by a shard plan.
//
//   weights   what the forward pass reads, in the compute dtype: every bucket whole (ZeRO 0, 1, 2), or this rank's
//             slice of it (3)
//   whole     stage 3: a bucket's weights between open() and close()
//   master    float32, the part this rank updates: all of a bucket at stage 0, its slice from stage 1 on.
//             With float32 weights it is a view of them, so it costs nothing; else it may be in host memory, or, for
//             weights that nothing updates, not be there.
#pragma once

#include <cstdint>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/base/index.h"
#include "dist/comm/communicator.h"
#include "dist/plan/shard_plan.h"
#include "dist/plan/zero_stage.h"

namespace muonp::dist {

// Where masters are that are no views of the weights.
enum class Masters : std::uint8_t { on_device, in_host_memory, none };

class ShardedParameters {
 public:
  // Allocates, and below stage 3 points every Parameter::value into its bucket. Values are undefined until
  // fill() or a load. weight_dtype: float32 or bfloat16. The parameters outlive this object.
  ShardedParameters(core::Device& device, core::ParameterList parameters, ShardPlan plan, int rank, ZeroStage zero,
                    core::Dtype weight_dtype, Masters masters = Masters::on_device);

  const ShardPlan& plan() const { return plan_; }
  const core::ParameterList& parameters() const { return parameters_; }
  int rank() const { return rank_; }
  const ZeroStage& zero() const { return zero_; }

  // The part of a bucket, and of a flattened parameter, whose optimizer state and master weights live here.
  Interval kept_of_bucket(int bucket) const;
  Interval kept(int parameter) const;
  // Master weights of kept(parameter); 1-D float32. Not with Masters::none and weights of another type.
  core::Tensor master(int parameter) const;
  const core::Tensor& master_of_bucket(int bucket) const { return master_[core::at(bucket)]; }

  // Initial values of the kept part of a parameter. Weights are valid after publish().
  void fill(int parameter, const core::WeightFiller& fill) const;
  // Casts the kept part of a bucket's master weights to the compute dtype, where they are not the same
  // memory.
  void cast_to_weights(int bucket) const;
  // Makes a bucket's weights whole on every rank (collective; nothing to do at stage 0; at stage 3 it is open).
  void gather_weights(int bucket, Communicator& communicator) const;
  // Casts all buckets and makes those whole that stay so (stages 1 and 2).
  void publish(Communicator& communicator) const;

  // Stage 3. open(): memory for a whole bucket, with this rank's slice in it. expose(), when it is gathered: its
  // parameters have values. close(): they have none, and the memory is released.
  void open(int bucket);
  void expose(int bucket) const;
  void close(int bucket);

  // Of everything a forward pass reads; at stage 3 collective, bucket by bucket, with all closed before.
  std::uint64_t weights_hash(Communicator& communicator);

 private:
  void point_values(int bucket, const core::Tensor& whole) const;
  void fill_weights(int parameter, const core::WeightFiller& fill) const;
  bool has_masters() const { return masters_ != Masters::none || weight_dtype_ == core::Dtype::float32; }

  core::Device& device_;
  core::ParameterList parameters_;
  ShardPlan plan_;
  int rank_;
  ZeroStage zero_;
  core::Dtype weight_dtype_;
  Masters masters_;
  std::vector<core::Tensor> weights_;  // by bucket
  std::vector<core::Tensor> whole_;    // by bucket; stage 3
  std::vector<core::Tensor> master_;   // by bucket
};

}  // namespace muonp::dist
