#include "models/layers/layers.h"

#include "core/autograd/ops/linear.h"
#include "core/autograd/ops/norm.h"

namespace muonp::models {

using core::ParameterKind;

Linear::Linear(ParameterSet& set, const std::string& name, std::int64_t outputs, std::int64_t inputs, bool bias,
               double stddev)
    : weight_(&set.add(name + ".weight", {outputs, inputs}, ParameterKind::matrix, normal_init(stddev))) {
  if (bias) bias_ = &set.add(name + ".bias", {outputs}, ParameterKind::vector, zeros_init());
}

core::Variable Linear::operator()(core::Tape& tape, const core::Variable& x) const {
  return core::ops::linear(tape, x, *weight_, bias_);
}

Norm::Norm(ParameterSet& set, const std::string& name, std::int64_t width, NormKind kind, bool bias)
    : kind_(kind), gain_(&set.add(name + ".weight", {width}, ParameterKind::vector, ones_init())) {
  if (bias && kind == NormKind::layer) bias_ = &set.add(name + ".bias", {width}, ParameterKind::vector, zeros_init());
}

core::Variable Norm::operator()(core::Tape& tape, const core::Variable& x) const {
  return kind_ == NormKind::rms ? core::ops::rms_norm(tape, x, *gain_) : core::ops::layer_norm(tape, x, *gain_, bias_);
}

}  // namespace muonp::models
