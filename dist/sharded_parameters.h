// The memory of a model's parameters on one rank, laid out by a shard plan.
//
//   weights   what the forward pass reads: every bucket whole, in the compute dtype (ZeRO 0, 1, 2)
//   master    float32, the part this rank updates: all of a bucket at stage 0, its slice from stage 1 on.
//             With float32 weights it is a view of them, so it costs nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "core/parameter.h"
#include "dist/communicator.h"
#include "dist/shard_plan.h"

namespace muonp::dist {

class ShardedParameters {
 public:
  // Allocates, and points every Parameter::value into its bucket. Values are undefined until initialize() or
  // a load. stage is 0, 1 or 2; weight_dtype float32 or bfloat16. The parameters outlive this object.
  ShardedParameters(core::Device& device, core::ParameterList parameters, ShardPlan plan, int rank, int stage,
                    core::Dtype weight_dtype);

  const ShardPlan& plan() const { return plan_; }
  const core::ParameterList& parameters() const { return parameters_; }
  int rank() const { return rank_; }
  int stage() const { return stage_; }

  // The part of a bucket, and of a flattened parameter, whose optimizer state and master weights live here.
  Interval kept_of_bucket(int bucket) const;
  Interval kept(int parameter) const;
  // Master weights of kept(parameter); 1-D float32.
  core::Tensor master(int parameter) const;

  // Initial values of the kept parts, from (seed, name, index). Weights are valid after publish().
  void initialize(std::uint64_t seed) const;
  // Casts the kept part of a bucket's master weights to the compute dtype, where they are not the same
  // memory.
  void cast_to_weights(int bucket) const;
  // Makes a bucket's weights whole on every rank (collective; nothing to do at stage 0).
  void gather_weights(int bucket, Communicator& communicator) const;
  // Both, for all buckets.
  void publish(Communicator& communicator) const;

  std::uint64_t weights_hash() const;  // of everything the forward pass reads

 private:
  core::Device& device_;
  core::ParameterList parameters_;
  ShardPlan plan_;
  int rank_, stage_;
  std::vector<core::Tensor> weights_;  // by bucket
  std::vector<core::Tensor> master_;   // by bucket
};

}  // namespace muonp::dist
