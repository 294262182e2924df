#include "models/layers/parameter_set.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/pattern.h"

namespace muonp::models {

core::Parameter& ParameterSet::add(std::string name, core::Shape shape, core::ParameterKind kind, core::Initializer init) {
  const bool taken = std::any_of(storage_.begin(), storage_.end(), [&](const auto& p) { return p.name == name; });
  MUONP_ASSERT(!taken, "two parameters are called {}", name);
  core::Parameter& parameter = storage_.emplace_back();
  parameter.name = std::move(name);
  parameter.shape = std::move(shape);
  parameter.kind = kind;
  parameter.init = init;
  parameter.trained = !lora_.on();
  list_.push_back(&parameter);
  return parameter;
}

core::Parameter& ParameterSet::add_factor(const std::string& name, core::Shape shape, core::ParameterKind kind,
                                          core::Initializer init) {
  core::Parameter& factor = add(name, std::move(shape), kind, init);
  factor.trained = true;
  factor.product_scale = lora_.scale();
  return factor;
}

core::ops::LowRank ParameterSet::add_adapter(const std::string& path, std::int64_t outputs, std::int64_t inputs) {
  linears_.push_back(path);
  bool chosen = false;
  for (const std::string& pattern : lora_.modules)
    if (selects_module(pattern, path)) {
      matched_.insert(pattern);
      chosen = true;
    }
  if (!lora_.on() || !chosen) return {};
  core::Parameter& a = add_factor(path + kLoraA, {lora_.rank, inputs}, core::ParameterKind::lora_a,
                                  normal_init(1 / std::sqrt(3.0 * static_cast<double>(inputs))));
  core::Parameter& b = add_factor(path + kLoraB, {outputs, lora_.rank}, core::ParameterKind::lora_b, zeros_init());
  a.partner = &b;
  b.partner = &a;
  return {&a, &b, static_cast<float>(lora_.scale())};
}

void ParameterSet::require_modules() const {
  for (const std::string& pattern : lora_.modules)
    if (!matched_.contains(pattern))
      core::fail("model.lora.modules: {} matches no linear layer; the nearest are {}", pattern,
                 core::nearest_to_pattern("*." + pattern, linears_));
}

std::int64_t ParameterSet::elements() const {
  std::int64_t total = 0;
  for (const core::Parameter* p : list_) total += p->size();
  return total;
}

}  // namespace muonp::models
