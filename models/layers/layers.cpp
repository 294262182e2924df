#include "models/layers/layers.h"

#include "core/base/index.h"

namespace muonp::models {

using core::ParameterKind;

ParallelLinears::ParallelLinears(ParameterSet& set, const std::vector<ParallelPart>& parts, std::int64_t inputs, bool bias,
                                 double stddev)
    : parts_(parts.size(), {nullptr, nullptr}), dropout_(set.lora().dropout), place_(set.list().size()) {
  for (std::size_t i = parts.size(); i-- > 0;)
    parts_[i].weight =
        &set.add(parts[i].name + ".weight", {parts[i].outputs, inputs}, ParameterKind::matrix, normal_init(stddev));
  for (std::size_t i = parts.size(); bias && i-- > 0;)
    parts_[i].bias = &set.add(parts[i].name + ".bias", {parts[i].outputs}, ParameterKind::vector, zeros_init());
  for (std::size_t i = 0; i < parts.size(); ++i)
    parts_[i].adapter = set.add_adapter(parts[i].name, parts[i].outputs, inputs);
}

core::Variable ParallelLinears::operator()(core::Tape& tape, const core::Variable& x,
                                           const std::optional<DropoutKey>& key) const {
  if (!key || dropout_ == 0 || !tape.recording()) return core::ops::linear(tape, x, parts_);
  constexpr std::uint64_t kMark = 1ull << 62;  // apart from other random streams
  const core::Tensor& in = x->value;
  return core::ops::linear(
      tape, x, parts_, {dropout_, key->seed, kMark | key->step << 20 | place_, key->first_row * (in.size() / in.dim(0))});
}

void ParallelLinears::list_reads(core::WeightReads& reads) const {
  std::vector<core::Parameter*> all, backward;
  for (const core::ops::LinearPart& part : parts_) {
    all.insert(all.end(), {part.weight, part.bias, part.adapter.a, part.adapter.b});
    backward.insert(backward.end(), {part.weight, part.adapter.a, part.adapter.b});
  }
  reads.operation(all, backward);
}

Norm::Norm(ParameterSet& set, const std::string& name, std::int64_t width, NormKind kind, bool bias, float epsilon)
    : kind_(kind), epsilon_(epsilon), gain_(&set.add(name + ".weight", {width}, ParameterKind::vector, ones_init())) {
  if (bias && kind == NormKind::layer) bias_ = &set.add(name + ".bias", {width}, ParameterKind::vector, zeros_init());
}

core::Variable Norm::operator()(core::Tape& tape, const core::Variable& x) const {
  return kind_ == NormKind::rms ? core::ops::rms_norm(tape, x, *gain_, epsilon_)
                                : core::ops::layer_norm(tape, x, *gain_, bias_, epsilon_);
}

core::ops::SumAndNorm Norm::operator()(core::Tape& tape, const core::Variable& a, const core::Variable& b) const {
  return kind_ == NormKind::rms ? core::ops::add_and_rms_norm(tape, a, b, *gain_, epsilon_)
                                : core::ops::add_and_layer_norm(tape, a, b, *gain_, bias_, epsilon_);
}

}  // namespace muonp::models
