#include "models/layers/parameter_set.h"

#include <algorithm>

namespace muonp::models {

core::Parameter& ParameterSet::add(std::string name, core::Shape shape, core::ParameterKind kind, core::Initializer init) {
  const bool taken = std::any_of(storage_.begin(), storage_.end(), [&](const auto& p) { return p.name == name; });
  MUONP_ASSERT(!taken, "two parameters are called {}", name);
  core::Parameter& parameter = storage_.emplace_back();
  parameter.name = std::move(name);
  parameter.shape = std::move(shape);
  parameter.kind = kind;
  parameter.init = init;
  list_.push_back(&parameter);
  return parameter;
}

std::int64_t ParameterSet::elements() const {
  std::int64_t total = 0;
  for (const core::Parameter* p : list_) total += p->size();
  return total;
}

}  // namespace muonp::models
