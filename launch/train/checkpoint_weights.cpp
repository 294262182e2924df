#include "launch/train/checkpoint_weights.h"

#include <algorithm>

#include "core/base/error.h"
#include "launch/train/checkpointing.h"

namespace muonp::launch {

CheckpointWeights::CheckpointWeights(const core::Checkpoint& checkpoint, const core::ParameterList& parameters,
                                     const std::optional<InitialWeights>& frozen)
    : pieces_(checkpoint, kStatePrefix), frozen_(frozen) {
  for (const core::Parameter* p : parameters) parameters_[p->name] = p;
}

std::vector<float> CheckpointWeights::whole(const core::Parameter& parameter) const {
  std::vector<float> values(static_cast<std::size_t>(parameter.size()));
  pieces_.read_float(evaluated_tensor(pieces_, parameter.name), parameter.shape, core::Dtype::float32, 0, parameter.size(),
                     values.data());
  return values;
}

const CheckpointWeights::Adapter* CheckpointWeights::adapter_of(const core::Parameter& weight) {
  constexpr std::string_view kWeight = ".weight";
  if (!weight.name.ends_with(kWeight)) return nullptr;
  const std::string path = weight.name.substr(0, weight.name.size() - kWeight.size());
  const auto a = parameters_.find(path + models::kLoraA);
  if (a == parameters_.end()) return nullptr;
  if (adapter_.weight != weight.name)
    adapter_ = {weight.name, a->second->shape[0], static_cast<float>(a->second->product_scale), whole(*a->second),
                whole(*a->second->partner)};
  return &adapter_;
}

void CheckpointWeights::read(const std::string& name, std::int64_t begin, std::int64_t end, float* to) {
  const core::Parameter& parameter = *parameters_.at(name);
  if (parameter.trained)
    return pieces_.read_float(evaluated_tensor(pieces_, name), parameter.shape, core::Dtype::float32, begin, end, to);
  MUONP_ASSERT(frozen_, "the frozen {} without a source", name);
  frozen_->read(parameter, begin, end - begin, to);
  const Adapter* adapter = adapter_of(parameter);
  if (adapter == nullptr) return;
  const std::int64_t columns = parameter.shape[1], rank = adapter->rank;
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t row = at / columns, first = at % columns, count = std::min(columns - first, end - at);
    for (std::int64_t k = 0; k < rank; ++k) {
      const float by = adapter->scale * adapter->b[static_cast<std::size_t>(row * rank + k)];
      const float* a = adapter->a.data() + k * columns + first;
      for (std::int64_t c = 0; c < count; ++c) to[at - begin + c] += by * a[c];
    }
    at += count;
  }
}

}  // namespace muonp::launch
