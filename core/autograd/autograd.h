// Reverse-mode automatic differentiation on a tape. Operations (core/autograd/ops/*.h) compute at once and record how
// to go back. A parameter whose gradient is complete is announced, so that its reduction can start during the
// backward pass.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/autograd/parameter.h"

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
  // Every use of the parameter in this backward pass has been written. Called exactly once per trained parameter of
  // the tape and backward pass; one that no operation used gets a zero gradient first.
  virtual void complete(Parameter& parameter) = 0;
};

// Where weights come from.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Called before an operation, forward or backward, reads values of parameters, with all that it reads at once: work
  // that the device's queue is given after this returns, and before the next call, may read them.
  virtual void acquire(std::span<Parameter* const> parameters) = 0;
};

// What a pass acquires, in order; an entry is what one operation reads at once. A model tells, so that a source can
// prepare weights ahead of use (models/model.h).
struct WeightReads {
  using List = std::vector<std::vector<Parameter*>>;
  List forward, backward;

  // The next operation of the forward pass; null entries are left out.
  void operation(const std::vector<Parameter*>& read_forward, const std::vector<Parameter*>& read_backward);
  // The next operations, whose backward pass comes before that of all that are here.
  void append(const WeightReads& next);
  // Those of trained, or of frozen, parameters alone.
  WeightReads only(bool trained) const;
};

// Operations of a training pass that follow each other: so many of WeightReads::forward, those of WeightReads::backward that
// undo them, and the most bytes that activations take at once while either runs.
struct PassStretch {
  std::int64_t forward, backward, activations;
};

// The same reads, as positions in `parameters`. InternalError if a parameter that is read is not there.
std::vector<std::vector<int>> positions_of(const WeightReads::List& reads, const ParameterList& parameters);

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
                  bool needs_gradient);               // for operations; never needs one if the tape does not record
  Tensor activation(Shape shape, Dtype dtype) const;  // uninitialised, Category::activations

  // For operations, on a recording tape: `uses` are the parameters the step writes a gradient of, each once; frozen ones
  // among them are left out, and the step writes none of theirs.
  // The step is destroyed, with the tensors it saved, as soon as it has run.
  void record(std::vector<Parameter*> uses, std::function<void()> backward);
  // For operations: the parameters' values are ready to be read until the next call. Null entries are left out.
  // InternalError if a value is not there.
  void acquire(const std::vector<Parameter*>& parameters) const;
  // acquire() of one parameter, and its value.
  const Tensor& weight(Parameter& parameter) const {
    acquire({&parameter});
    return parameter.value;
  }
  // For backward steps: where to write a parameter's gradient now.
  GradientSlot slot(Parameter& parameter);
  // For backward steps: where to write a value's gradient (its dtype and shape), and whether to add to it; no other
  // gradient lies there. The step that made the value takes it with std::exchange and may reuse its storage if that is not
  // shared: the gradients of a sum's two terms are one tensor until one of them is written.
  GradientSlot slot(Gradient& gradient);

  // segment(tape, x) without keeping what its operations save: the backward pass runs the segment again, which must
  // compute the same, and then backwards. What it captures must live until then. Values, gradients and the order in
  // which parameters are announced are those without a checkpoint (Chen et al. 2016, "Training Deep Nets with Sublinear
  // Memory Cost").
  using Segment = std::function<Variable(Tape& tape, const Variable& x)>;
  Variable checkpoint(const Variable& x, Segment segment);

  // Runs the tape backwards from `loss` (a float32 scalar) with d(loss) = scale, handing gradients to `sink`.
  // `parameters`: all that the model has, so that unused trained ones are announced too, after all others. A
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
  std::unordered_map<const Parameter*, int> uses_left_;  // in the backward pass, by steps not yet run
  std::unordered_set<const Parameter*> written_;
};

}  // namespace muonp::core
