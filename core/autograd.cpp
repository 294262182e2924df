#include "core/autograd.h"

#include <unordered_map>
#include <utility>

namespace muonp::core {

Tape::Tape(Device& device, bool recording, WeightSource* weights)
    : device_(device), recording_(recording), weights_(weights) {}

Variable Tape::constant(Tensor value) { return std::make_shared<Node>(Node{std::move(value), nullptr}); }

Variable Tape::variable(Tensor value) { return result(std::move(value), true); }

Variable Tape::result(Tensor value, bool needs_gradient) {
  std::shared_ptr<Gradient> gradient;
  if (needs_gradient && recording_)
    gradient = std::make_shared<Gradient>(Gradient{value.shape(), value.dtype(), Tensor()});
  return std::make_shared<Node>(Node{std::move(value), std::move(gradient)});
}

Tensor Tape::activation(Shape shape, Dtype dtype) const {
  return Tensor::empty(device_, std::move(shape), dtype, Category::activations);
}

void Tape::record(std::vector<Parameter*> uses, std::function<void()> backward) {
  MUONP_ASSERT(recording_, "an operation recorded a backward step on a tape that does not record");
  MUONP_ASSERT(!done_, "an operation was recorded after the backward pass of its tape");
  steps_.push_back({std::move(uses), std::move(backward)});
}

GradientSlot Tape::slot(Parameter& parameter) {
  MUONP_ASSERT(sink_, "the gradient of {} was asked for outside the backward pass", parameter.name);
  written_.insert(&parameter);
  GradientSlot slot = sink_->slot(parameter);
  MUONP_ASSERT(
      slot.gradient && slot.gradient.dtype() == Dtype::float32 && slot.gradient.shape() == parameter.shape,
      "the storage for the gradient of {} {} is not a float32 tensor of that shape", parameter.name,
      to_string(parameter.shape));
  return slot;
}

GradientSlot Tape::slot(Gradient& gradient) {
  const bool add = static_cast<bool>(gradient.tensor);
  if (!add) gradient.tensor = activation(gradient.shape, gradient.dtype);
  return {gradient.tensor, add};
}

void Tape::announce(Parameter& parameter) {
  if (!written_.contains(&parameter)) {
    const GradientSlot empty = slot(parameter);
    if (!empty.add) empty.gradient.zero(queue());
  }
  sink_->complete(parameter);
}

void Tape::backward(const Variable& loss, float scale, const ParameterList& parameters, GradientSink& sink) {
  MUONP_ASSERT(recording_, "backward() on a tape that does not record");
  MUONP_ASSERT(!done_,
               "backward() a second time on one tape; every backward pass needs a forward pass of its own");
  MUONP_ASSERT(loss->value.dtype() == Dtype::float32 && loss->value.size() == 1,
               "backward() starts from a float32 scalar, not from {} {}", name_of(loss->value.dtype()),
               to_string(loss->value.shape()));
  MUONP_ASSERT(loss->gradient, "backward() from a value that depends on no parameter and no variable");
  done_ = true;
  sink_ = &sink;

  std::unordered_map<Parameter*, int> uses_left;
  for (Parameter* parameter : parameters) uses_left[parameter] = 0;
  for (const Step& step : steps_)
    for (Parameter* parameter : step.uses) {
      MUONP_ASSERT(uses_left.contains(parameter), "{} was used but is not in the model's list",
                   parameter->name);
      ++uses_left[parameter];
    }
  std::vector<Parameter*> unused;
  for (auto p = parameters.rbegin(); p != parameters.rend(); ++p)
    if (uses_left[*p] == 0) unused.push_back(*p);

  queue().write(slot(*loss->gradient).gradient.raw(), &scale, sizeof scale);
  while (!steps_.empty()) {
    Step step = std::move(steps_.back());
    steps_.pop_back();
    step.backward();
    step.backward = nullptr;  // frees what it saved, before a reduction asks for memory
    for (auto p = step.uses.rbegin(); p != step.uses.rend(); ++p)
      if (--uses_left[*p] == 0) announce(**p);
  }
  for (Parameter* parameter : unused) announce(*parameter);
  sink_ = nullptr;
}

}  // namespace muonp::core
