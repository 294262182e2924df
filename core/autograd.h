// Reverse-mode automatic differentiation on a tape. Operations (core/ops/*.h) compute at once and record how to go
// back. A parameter whose gradient is complete is announced, so that its reduction can start during the backward pass.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
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
  // Every use of the parameter in this backward pass has been written. Called exactly once per parameter of the tape
  // and backward pass; a parameter that no operation used gets a zero gradient first.
  virtual void complete(Parameter& parameter) = 0;
};

struct Node;
// A value in the computation; cheap to copy.
using Variable = std::shared_ptr<Node>;

struct Node {
  Tensor value;                                 // may be dropped by the tape once no backward step needs it
  Tensor gradient;                              // same dtype and shape as value; empty until something is added
  bool needs_gradient = false;
};

class Tape {
 public:
  // `recording` false: forward only, nothing is kept (evaluation, generation).
  Tape(Device& device, bool recording);

  Device& device() const { return device_; }
  Queue& queue() const { return device_.queue(); }
  bool recording() const { return recording_; }

  Variable constant(Tensor value);
  Variable variable(Tensor value);                     // an input whose gradient is wanted (tests)
  Variable result(Tensor value, bool needs_gradient);  // for operations
  Tensor activation(Shape shape, Dtype dtype);         // uninitialised, Category::activations

  // For operations: `uses` are the parameters the step writes a gradient of.
  void record(std::vector<Parameter*> uses, std::function<void()> backward);
  // For backward steps: where to write a parameter's gradient now.
  GradientSlot slot(Parameter& parameter);
  // For backward steps: returns the gradient tensor of `v` to be written, and whether to add to it.
  GradientSlot slot(const Variable& v);

  // Runs the tape backwards from `loss` (a float32 scalar) with d(loss) = scale, handing gradients to `sink`.
  // `parameters`: all that the model has, so that unused ones are announced too. Once per tape.
  void backward(const Variable& loss, float scale, const ParameterList& parameters, GradientSink& sink);

 private:
  struct Step {
    std::vector<Parameter*> uses;
    std::function<void()> backward;
  };
  Device& device_;
  bool recording_;
  bool done_ = false;
  GradientSink* sink_ = nullptr;
  std::vector<Step> steps_;
};

}  // namespace muonp::core
