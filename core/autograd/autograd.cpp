#include "core/autograd/autograd.h"

#include <algorithm>
#include <utility>

#include "core/base/math.h"

namespace muonp::core {

namespace {

std::vector<Parameter*> without_nulls(std::vector<Parameter*> all) {
  std::erase(all, nullptr);
  return all;
}

}  // namespace

void WeightReads::operation(const std::vector<Parameter*>& read_forward, const std::vector<Parameter*>& read_backward) {
  if (auto read = without_nulls(read_forward); !read.empty()) forward.push_back(std::move(read));
  if (auto read = without_nulls(read_backward); !read.empty()) backward.insert(backward.begin(), std::move(read));
}

void WeightReads::append(const WeightReads& next) {
  forward.insert(forward.end(), next.forward.begin(), next.forward.end());
  backward.insert(backward.begin(), next.backward.begin(), next.backward.end());
}

WeightReads WeightReads::only(bool trained) const {
  const auto some = [trained](const List& all) {
    List list;
    for (std::vector<Parameter*> read : all) {
      std::erase_if(read, [trained](const Parameter* p) { return p->trained != trained; });
      if (!read.empty()) list.push_back(std::move(read));
    }
    return list;
  };
  return {some(forward), some(backward)};
}

std::vector<std::vector<int>> positions_of(const WeightReads::List& reads, const ParameterList& parameters) {
  std::unordered_map<const Parameter*, int> position;
  for (Parameter* p : parameters) position.emplace(p, to_int(position.size()));
  std::vector<std::vector<int>> all;
  for (const auto& read : reads) {
    std::vector<int>& positions = all.emplace_back();
    for (const Parameter* p : read) {
      const auto found = position.find(p);
      MUONP_ASSERT(found != position.end(), "{} is read but is not in the model's list", p->name);
      positions.push_back(found->second);
    }
  }
  return all;
}

Tape::Tape(Device& device, bool recording, WeightSource* weights)
    : device_(device), recording_(recording), weights_(weights) {}

Variable Tape::constant(Tensor value) { return std::make_shared<Node>(Node{std::move(value), nullptr}); }

Variable Tape::variable(Tensor value) { return result(std::move(value), true); }

Variable Tape::result(Tensor value, bool needs_gradient) {
  std::shared_ptr<Gradient> gradient;
  if (needs_gradient && recording_) gradient = std::make_shared<Gradient>(Gradient{value.shape(), value.dtype(), Tensor()});
  return std::make_shared<Node>(Node{std::move(value), std::move(gradient)});
}

Tensor Tape::activation(Shape shape, Dtype dtype) const {
  return Tensor::empty(device_, std::move(shape), dtype, Category::activations);
}

void Tape::acquire(const std::vector<Parameter*>& parameters) const {
  const std::vector<Parameter*> read = without_nulls(parameters);
  if (weights_) weights_->acquire(read);
  for (const Parameter* p : read) MUONP_ASSERT(p->value, "{} is read where its value is not there", p->name);
}

void Tape::record(std::vector<Parameter*> uses, std::function<void()> backward) {
  MUONP_ASSERT(recording_, "an operation recorded a backward step on a tape that does not record");
  // During the backward pass: a segment that is run again.
  MUONP_ASSERT(!done_ || sink_, "an operation was recorded after the backward pass of its tape");
  std::erase_if(uses, [](const Parameter* p) { return !p->trained; });
  if (done_)
    for (const Parameter* p : uses) ++uses_left_[p];
  steps_.push_back({std::move(uses), std::move(backward)});
}

Variable Tape::checkpoint(const Variable& x, Segment segment) {
  if (!recording_) return segment(*this, x);
  const auto before = static_cast<std::ptrdiff_t>(steps_.size());
  const Variable out = result(segment(*this, x)->value, true);
  std::vector<Parameter*> uses;
  for (auto step = steps_.begin() + before; step != steps_.end(); ++step)
    for (Parameter* p : step->uses)
      if (std::ranges::find(uses, p) == uses.end()) uses.push_back(p);
  steps_.erase(steps_.begin() + before, steps_.end());
  record(std::move(uses), [this, x = *x, segment = std::move(segment), gradient = out->gradient] {
    if (!gradient->tensor) return;
    // Its steps are the next that the backward pass runs.
    const Variable again = segment(*this, std::make_shared<Node>(x));
    again->gradient->tensor = std::exchange(gradient->tensor, Tensor());
  });
  return out;
}

GradientSlot Tape::slot(Parameter& parameter) {
  MUONP_ASSERT(sink_, "the gradient of {} was asked for outside the backward pass", parameter.name);
  MUONP_ASSERT(parameter.trained, "the gradient of {}, which is frozen", parameter.name);
  written_.insert(&parameter);
  GradientSlot slot = sink_->slot(parameter);
  MUONP_ASSERT(slot.gradient && slot.gradient.dtype() == Dtype::float32 && slot.gradient.shape() == parameter.shape,
               "the storage for the gradient of {} {} is not a float32 tensor of that shape", parameter.name,
               to_string(parameter.shape));
  return slot;
}

GradientSlot Tape::slot(Gradient& gradient) {
  const bool add = static_cast<bool>(gradient.tensor);
  if (!add || gradient.tensor.is_shared()) {
    const Tensor before = std::exchange(gradient.tensor, activation(gradient.shape, gradient.dtype));
    if (add) gradient.tensor.copy_from(queue(), before.view(gradient.shape));
  }
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
  MUONP_ASSERT(!done_, "backward() a second time on one tape; every backward pass needs a forward pass of its own");
  MUONP_ASSERT(loss->value.dtype() == Dtype::float32 && loss->value.size() == 1,
               "backward() starts from a float32 scalar, not from {} {}", name_of(loss->value.dtype()),
               to_string(loss->value.shape()));
  MUONP_ASSERT(loss->gradient, "backward() from a value that depends on no parameter and no variable");
  done_ = true;
  sink_ = &sink;

  const ParameterList trained = trained_of(parameters);
  for (Parameter* parameter : trained) uses_left_[parameter] = 0;
  for (const Step& step : steps_)
    for (Parameter* parameter : step.uses) {
      MUONP_ASSERT(uses_left_.contains(parameter), "{} was used but is not in the model's list", parameter->name);
      ++uses_left_[parameter];
    }
  std::vector<Parameter*> unused;
  for (auto p = trained.rbegin(); p != trained.rend(); ++p)
    if (uses_left_[*p] == 0) unused.push_back(*p);

  queue().write(slot(*loss->gradient).gradient.raw(), &scale, sizeof scale);
  while (!steps_.empty()) {
    Step step = std::move(steps_.back());
    steps_.pop_back();
    step.backward();
    step.backward = nullptr;  // frees what it saved, before a reduction asks for memory
    for (auto p = step.uses.rbegin(); p != step.uses.rend(); ++p)
      if (--uses_left_[*p] == 0) announce(**p);
  }
  for (Parameter* parameter : unused) announce(*parameter);
  sink_ = nullptr;
}

}  // namespace muonp::core
