#include "models/layers/layers.h"

#include "core/autograd/ops/residual.h"
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

core::ops::DropoutMask ParallelLinears::dropped(const core::Tape& tape, const core::Tensor& x,
                                                const std::optional<DropoutKey>& key) const {
  if (!key || dropout_ == 0 || !tape.recording()) return {};
  constexpr std::uint64_t kMark = 1ull << 62;  // apart from other random streams
  return {dropout_, key->seed, kMark | key->step << 20 | place_, key->first_row * (x.size() / x.dim(0))};
}

core::Variable ParallelLinears::operator()(core::Tape& tape, const core::Variable& x,
                                           const std::optional<DropoutKey>& key) const {
  return core::ops::linear(tape, x, parts_, dropped(tape, x->value, key));
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

core::Variable sum_of(core::Tape& tape, const Residual& stream) {
  return stream.term ? core::ops::add(tape, stream.value, stream.term) : stream.value;
}

core::ops::SumAndNorm Norm::operator()(core::Tape& tape, Residual stream) const {
  if (!stream.term) return {stream.value, (*this)(tape, stream.value)};
  return kind_ == NormKind::rms ? core::ops::add_and_rms_norm(tape, stream.value, stream.term, *gain_, epsilon_)
                                : core::ops::add_and_layer_norm(tape, stream.value, stream.term, *gain_, bias_, epsilon_);
}

}  // namespace muonp::models
