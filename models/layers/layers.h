// Layers: parameters together with the operation that uses them. list_reads() appends what the operation reads where
// its input depends on parameters.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/autograd/autograd.h"
#include "core/autograd/ops/linear.h"
#include "core/autograd/ops/norm.h"
#include "models/layers/parameter_set.h"
#include "models/model.h"

namespace muonp::models {

struct ParallelPart {
  std::string name;
  std::int64_t outputs;
};
// Linear layers of one input, whose results stand side by side: [..., sum of outputs]. Each is a parameter of its own; where
// their weights lie one behind the other they are multiplied as one (core/autograd/ops/linear.h). The list of parameters has
// the last part first: so they lie in a trainer's buckets in the order of their results. Those that the set's LoRA chooses
// have adapters, which read the same dropped input.
class ParallelLinears {
 public:
  ParallelLinears(ParameterSet& set, const std::vector<ParallelPart>& parts, std::int64_t inputs, bool bias, double stddev);
  // `key`: of the pass, for dropout; none where nothing is dropped.
  core::Variable operator()(core::Tape& tape, const core::Variable& x, const std::optional<DropoutKey>& key) const;
  void list_reads(core::WeightReads& reads) const;
  const core::ops::LinearPart& part(std::size_t i) const { return parts_[i]; }
  // What the adapters of this layer leave out of x.
  core::ops::DropoutMask dropped(const core::Tape& tape, const core::Tensor& x, const std::optional<DropoutKey>& key) const;

 private:
  std::vector<core::ops::LinearPart> parts_;
  double dropout_;       // of what adapters read
  std::uint64_t place_;  // that no other layer of the model has
};

// One of them: parameters "<name>.weight" [outputs, inputs] and, with bias, "<name>.bias" [outputs] = 0.
class Linear {
 public:
  Linear(ParameterSet& set, const std::string& name, std::int64_t outputs, std::int64_t inputs, bool bias, double stddev)
      : one_(set, {{name, outputs}}, inputs, bias, stddev) {}
  core::Variable operator()(core::Tape& tape, const core::Variable& x, const std::optional<DropoutKey>& key) const {
    return one_(tape, x, key);
  }
  // gelu of the result, for the next layer; and that one's result.
  core::ops::GeluOfLinear gelu(core::Tape& tape, const core::Variable& x, const std::optional<DropoutKey>& key) const {
    return core::ops::linear_gelu(tape, x, part(), one_.dropped(tape, x->value, key));
  }
  core::Variable operator()(core::Tape& tape, const core::ops::GeluOfLinear& x, const std::optional<DropoutKey>& key) const {
    return core::ops::linear(tape, x, part(), one_.dropped(tape, x.value, key));
  }
  void list_reads(core::WeightReads& reads) const { one_.list_reads(reads); }
  const core::ops::LinearPart& part() const { return one_.part(0); }

 private:
  ParallelLinears one_;
};

// The residual stream: a value, and a term that is still to be added to it, by the norm that reads the sum.
struct Residual {
  core::Variable value, term = nullptr;  // term: null where nothing is
};
core::Variable sum_of(core::Tape& tape, const Residual& stream);

enum class NormKind : std::uint8_t { layer, rms };

// Parameters "<name>.weight" [width] = 1 and, with bias, "<name>.bias" [width] = 0. RMS norm has no bias.
class Norm {
 public:
  Norm(ParameterSet& set, const std::string& name, std::int64_t width, NormKind kind, bool bias,
       float epsilon = core::ops::kNormEpsilon);
  core::Variable operator()(core::Tape& tape, const core::Variable& x) const;
  // Of the stream's sum, which comes with it, in one pass.
  core::ops::SumAndNorm operator()(core::Tape& tape, Residual stream) const;
  void list_reads(core::WeightReads& reads) const { reads.operation({gain_, bias_}, {gain_}); }

 private:
  NormKind kind_;
  float epsilon_;
  core::Parameter* gain_;
  core::Parameter* bias_ = nullptr;
};

}  // namespace muonp::models
