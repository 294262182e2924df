// Reverse-mode automatic differentiation on a tape. Operations (core/ops/*.h) compute at once and record how
// to go back. A parameter whose gradient is complete is announced, so that its reduction can start during the
// backward pass.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include "core/parameter.h"

namespace muonp::core {

// Where gradients of parameters go.
struct GradientSlot {
  Tensor gradient;  // float32, the parameter's shape
  bool add;         // add to what is there (true) or overwrite it (false)
};
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // Storage for the parameter's gradient; called before each write of it.
  virtual GradientSlot slot(Parameter& parameter) = 0;
  // Every use of the parameter in this backward pass has been written. Called exactly once per parameter of
  // the tape and backward pass; a parameter that no operation used gets a zero gradient first.
  virtual void complete(Parameter& parameter) = 0;
};

// Where weights come from.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Called before an operation, forward or backward, reads the parameter's value: work that the device's queue is given
  // after this returns may read it.
  virtual void acquire(Parameter& parameter) = 0;
};

// The gradient of a value. It is shared by the backward steps that write it and the one that consumes it, and
// does not keep the value alive: a value that no backward step reads is freed as soon as the model lets go of
// its Variable.
struct Gradient {
  Shape shape;
  Dtype dtype = Dtype::float32;
  Tensor tensor;  // empty until something is added, and again once the step that made the value has run
};

// A value in the computation; cheap to copy.
struct Node {
  Tensor value;
  std::shared_ptr<Gradient> gradient;  // null where no gradient is wanted
};
using Variable = std::shared_ptr<Node>;

class Tape {
 public:
  // `recording` false: forward only, nothing is kept (evaluation, generation). Without `weights` every parameter's value
  // is there already.
  Tape(Device& device, bool recording, WeightSource* weights = nullptr);

  Device& device() const { return device_; }
  Queue& queue() const { return device_.queue(); }
  bool recording() const { return recording_; }

  Variable constant(Tensor value);
  Variable variable(Tensor value);  // an input whose gradient is wanted (tests)
  Variable result(Tensor value,
                  bool needs_gradient);  // for operations; never needs one if the tape does not record
  Tensor activation(Shape shape, Dtype dtype) const;  // uninitialised, Category::activations

  // For operations, on a recording tape: `uses` are the parameters the step writes a gradient of, each once.
  // The step is destroyed, with the tensors it saved, as soon as it has run.
  void record(std::vector<Parameter*> uses, std::function<void()> backward);
  // For operations: the parameter's value, ready to be read.
  const Tensor& weight(Parameter& parameter) const {
    if (weights_) weights_->acquire(parameter);
    return parameter.value;
  }
  // For backward steps: where to write a parameter's gradient now.
  GradientSlot slot(Parameter& parameter);
  // For backward steps: where to write a value's gradient (its dtype and shape), and whether to add to it.
  // The step that made the value takes it with std::exchange and may reuse its storage: no other step holds
  // that tensor.
  GradientSlot slot(Gradient& gradient);

  // Runs the tape backwards from `loss` (a float32 scalar) with d(loss) = scale, handing gradients to `sink`.
  // `parameters`: all that the model has, so that unused ones are announced too, after all others. A
  // parameter is announced when its last use counted from the loss has run, so the order is the reverse of
  // the order of first use. Once per tape; InternalError the second time and on a tape that does not record.
  void backward(const Variable& loss, float scale, const ParameterList& parameters, GradientSink& sink);

 private:
  struct Step {
    std::vector<Parameter*> uses;
    std::function<void()> backward;
  };
  void announce(Parameter& parameter);

  Device& device_;
  bool recording_;
  WeightSource* weights_;
  bool done_ = false;
  GradientSink* sink_ = nullptr;
  std::vector<Step> steps_;
  std::unordered_set<const Parameter*> written_;
};

}  // namespace muonp::core
