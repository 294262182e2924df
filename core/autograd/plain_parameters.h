// Parameters of one rank that are not sharded: each has storage of its own. For tests, benchmarks and
// evaluation; a trainer keeps its parameters in buckets instead (dist/plan/shard_plan.h).
#pragma once

#include <unordered_set>

#include "core/autograd/autograd.h"

namespace muonp::core {

class PlainParameters final : public GradientSink {
 public:
  // Gives every parameter a value of dtype `compute` with its initial contents for `seed`
  // (Category::weights). The parameters must outlive this object, which takes the storage away again.
  PlainParameters(Device& device, const ParameterList& parameters, Dtype compute, std::uint64_t seed);
  // The same with contents that are undefined.
  PlainParameters(Device& device, const ParameterList& parameters, Dtype compute);
  ~PlainParameters() override;
  PlainParameters(const PlainParameters&) = delete;
  PlainParameters& operator=(const PlainParameters&) = delete;

  // The next backward pass overwrites the gradients; without it they add up.
  void start_step();
  // Parameters announced since start_step(), in the order of announcement.
  const ParameterList& completed() const { return completed_; }

  // Gradients are float32 tensors (Category::gradients) made at the first write and kept.
  GradientSlot slot(Parameter& parameter) override;
  void complete(Parameter& parameter) override { completed_.push_back(&parameter); }

 private:
  Device& device_;
  ParameterList parameters_, completed_;
  std::unordered_set<const Parameter*> written_;
};

}  // namespace muonp::core
