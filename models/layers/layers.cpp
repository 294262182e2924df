#include "models/layers/layers.h"

#include "core/base/index.h"

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

ParallelLinears::ParallelLinears(ParameterSet& set, const std::vector<ParallelPart>& parts, std::int64_t inputs, bool bias,
                                 double stddev)
    : parts_(parts.size(), {nullptr, nullptr}) {
  for (std::size_t i = parts.size(); i-- > 0;)
    parts_[i].weight =
        &set.add(parts[i].name + ".weight", {parts[i].outputs, inputs}, ParameterKind::matrix, normal_init(stddev));
  for (std::size_t i = parts.size(); bias && i-- > 0;)
    parts_[i].bias = &set.add(parts[i].name + ".bias", {parts[i].outputs}, ParameterKind::vector, zeros_init());
}

void ParallelLinears::list_reads(core::WeightReads& reads) const {
  std::vector<core::Parameter*> all, weights;
  for (const core::ops::LinearPart& part : parts_) {
    weights.push_back(part.weight);
    all.push_back(part.weight);
    if (part.bias != nullptr) all.push_back(part.bias);
  }
  reads.operation(all, weights);
}

Norm::Norm(ParameterSet& set, const std::string& name, std::int64_t width, NormKind kind, bool bias, float epsilon)
    : kind_(kind), epsilon_(epsilon), gain_(&set.add(name + ".weight", {width}, ParameterKind::vector, ones_init())) {
  if (bias && kind == NormKind::layer) bias_ = &set.add(name + ".bias", {width}, ParameterKind::vector, zeros_init());
}

core::Variable Norm::operator()(core::Tape& tape, const core::Variable& x) const {
  return kind_ == NormKind::rms ? core::ops::rms_norm(tape, x, *gain_, epsilon_)
                                : core::ops::layer_norm(tape, x, *gain_, bias_, epsilon_);
}

}  // namespace muonp::models
