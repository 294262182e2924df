// What an update rule is: the keys it reads, the state it keeps and where, and what it does with a gradient. A rule is a
// class in a pair of files and a line in table.cpp; planner, checkpoints, offload and the engine know rules through this
// interface only, and an embedding trainer can bring a rule of its own (docs/architecture.md).
//
// Rules are of two kinds. One that moves element by element does all its work on the pieces that each rank keeps:
//
//   move(gradient)        W and the states of a piece, in place
//
// One that needs whole matrices works in three phases, and what crosses the network between them is a type of its own:
//
//   direction(gradient)   every rank, on the pieces that it keeps: GradientSum -> Direction
//   MatrixStep::compute   the owner of a matrix, on all of it: its update, from the gathered direction
//   apply(update)         every rank, on its pieces: W <- (1 - lr weight_decay) W - lr update
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"
#include "core/device/device.h"
#include "core/device/tensor.h"
#include "optim/rules/split.h"
#include "optim/spectral/exponent.h"
#include "optim/spectral/sharers.h"
#include "optim/storage/storage.h"

namespace muonp::optim {

// ---- what a rule keeps ----

// The shape of a state, of a parameter that is [m, n] or a batch of E such matrices, with k = min(m, n).
enum class Form : std::uint8_t {
  elements,      // as the parameter
  rows,          // [E, m]
  columns,       // [E, n]
  scalar,        // [E]
  square,        // [E, k, k]
  row_square,    // [E, m, m]
  column_square  // [E, n, n]
};
enum class Home : std::uint8_t {
  shard,  // each rank has that of the pieces it keeps; elements only
  owner   // whole, on the rank that owns the matrix; for rules that need whole matrices
};
// A tensor that lives from step to step, zero before the first; float32 for the rule, whatever it is kept as.
struct StateSpec {
  std::string name;
  Form form = Form::elements;
  Home home = Home::shard;
  std::int64_t longest = 0;          // of the squares: of a longer side [E, 0, 0]; 0: none is too long
  Content content = Content::exact;  // of elements on shards: what they are, and so whether fewer bits will do
};
// `batches`: all of a parameter. Error for a state of another form than elements and scalar where they are not of one size.
core::Shape state_shape(const StateSpec& state, std::span<const MatrixBatch> batches);

// The state, on shards, of weights that a model is evaluated at in the place of those that it trains at.
inline constexpr std::string_view kAverage = "average";
// The states, on shards and in this order, of a rule with Needs::old_gradient: the sum over ranks of the gradients of this
// step's samples at the weights of the step before, and those weights, which begin as the initial ones.
inline constexpr std::string_view kOldGradient = "old_gradient", kOldWeights = "old_weights";

struct Needs {
  bool whole_matrices = false;  // the rule moves matrices, by a MatrixStep of their owner
  bool gradient_norm = false;   // StepFacts::gradient_norm, of each parameter over all ranks
  bool mean_gradient = false;   // direction() is not linear: the mean of ranks' directions is not that of the mean
  bool loss = false;            // StepFacts::loss
  bool old_gradient = false;    // kOldGradient, by a second pass over each step's samples
  bool partner_gram = false;    // MatrixInput::pair, of the factors of low-rank adapters
  bool lora_b_only = false;     // kind:matrix selects for it the factors B of adapters, and not A
};

// ---- what it is given ----

// Of one step, the same on all ranks.
struct StepFacts {
  std::int64_t step = 1;      // counted from 1
  double lr = 0;              // of the group, with the schedule's factor
  double weight_decay = 0;    // decoupled
  double gradient_scale = 1;  // sum over ranks -> mean over ranks, clipped
  double gradient_norm = 0;   // of this parameter's mean gradient, before clipping; 0 where the rule does not need it
  double loss = 0;            // of the step, the mean over ranks; 0 where no rule needs it
};

// The three things that lie in a gradient's memory in turn. Each phase takes the one and makes the next, so that no phase is
// left out or comes twice. 1-D float32.
struct GradientSum {  // over ranks; StepFacts::gradient_scale makes the mean of it
  core::Tensor values;
};
struct Direction {  // what the owner gets of a rule that needs whole matrices
  core::Tensor values;
};
struct Update {  // what the learning rate multiplies
  core::Tensor values;
};

// What a factor of a low-rank adapter s·B·A, with B [m, r] and A [r, n], is given of the other one.
struct LoraPair {
  core::Tensor gram;       // AAᵀ beside B, BᵀB beside A: float32 [r, r]
  bool is_b = false;       // which of the two the input is
  std::int64_t other = 0;  // n beside B, m beside A
  double scale = 1;        // s
};

// A matrix parameter on its owner.
struct MatrixInput {
  std::string name;              // of the parameter, for messages
  core::Shape shape;             // [rows, cols] or [count, rows, cols], as the model declares it
  const Split* split = nullptr;  // of a fused parameter; null: none
  core::Tensor in, out;          // direction and update: float32, element_count(shape) elements, row-major; no two overlap
  std::vector<core::Tensor> states = {};  // those with Home::owner, in the order of Rule::states(); changed in place
  StepFacts facts = {};                   // of its parameter
  std::optional<LoraPair> pair = {};      // with Needs::partner_gram, of a factor; before this step
  // In a plan, which has neither `in` nor `out`: the element where both begin in memory of theirs, which inputs share; or
  // nothing, where each has memory of its own.
  std::optional<std::int64_t> begin = {};
};

// The exponent of a spectral power at one step.
struct StepExponent {
  spectral::Exponent p;
  double exact = 0;  // what the schedule says; p is the nearest exponent
};

// The part of a rule that works on whole matrices. Each matrix of a stack or split is a matrix of its own.
class MatrixStep {
 public:
  virtual ~MatrixStep() = default;
  // out of every input, from `in`, which is left as it is. Parameters without elements are left out. An Error names the
  // parameter; every `out` is then unspecified.
  virtual void compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) = 0;
  // Floating-point operations of one parameter's step, and the type of the products they are.
  virtual double cost(std::string_view name, const core::Shape& shape, const Split* split) const = 0;
  virtual core::Dtype product_dtype() const = 0;
  // Most bytes of scratch memory that compute() takes for these inputs, whose tensors are not looked at: no two are taken to
  // lie one after the other.
  virtual std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const = 0;

  // What it takes that so many ranks share a parameter; none where its matrices are taken whole.
  virtual std::optional<spectral::SharedWork> shared_work(std::string_view /*name*/, const core::Shape& /*shape*/,
                                                          const Split* /*split*/, int /*sharers*/) const {
    return std::nullopt;
  }
  // compute() of one parameter, of which `in` and `out` are this rank's parts (SpectralPower::apply_share) of its matrices,
  // one behind the other in the order of matrix_batches(). Collective.
  virtual void compute_share(core::Device& device, std::int64_t step, const MatrixInput& input, spectral::Sharers& sharers);
  virtual std::int64_t share_workspace_bytes(const MatrixInput& input, int sharers) const;
};

// ---- a rule ----

class Rule {
 public:
  virtual ~Rule() = default;
  virtual std::unique_ptr<Rule> clone() const = 0;

  virtual std::string_view name() const = 0;                        // in a configuration
  virtual std::string text() const { return std::string(name()); }  // for people: "muonp p=1/2"
  virtual std::string_view source() const = 0;                      // the paper
  virtual std::string_view published_lr() const = 0;                // what it is published with, for people
  // The keys of its own; after them, it does not change.
  virtual void describe(core::Fields& fields) = 0;
  // What one key alone cannot tell. Error that begins with the path of the group: "optimizer.matrices.momentum is ...".
  virtual void validate(const std::string& path) const = 0;

  virtual std::vector<StateSpec> states() const = 0;
  virtual Needs needs() const { return {}; }
  // Whether its first state is kAverage, which begins as the initial weights. Evaluations, exports and whoever reads a
  // checkpoint's weights take it.
  virtual bool evaluates_average() const { return false; }

  // Rules without Needs::whole_matrices: one step of a piece. master: its float32 weights; states: in the order of states().
  // The gradient may be overwritten.
  virtual void move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
                    std::span<const core::Tensor> states) const;

  // Rules with Needs::whole_matrices. direction: in the gradient's memory; states: those with Home::shard.
  virtual Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                              std::span<const core::Tensor> states) const;
  // The learning rate and the decay that an update is applied with; `factor`: of a low-rank adapter's factor.
  virtual StepFacts applied(const StepFacts& facts, bool /*factor*/) const { return facts; }
  // Error for what the device cannot do.
  virtual std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const;

  // For metrics: the exponent of a rule that gives all its matrices one, and the name of the scalar state of owners that is
  // shown after this step, if any.
  virtual std::optional<StepExponent> step_exponent(std::int64_t /*step*/) const { return std::nullopt; }
  virtual std::string_view shown_state(std::int64_t /*step*/) const { return ""; }

  // Of states(), those that live there.
  std::vector<StateSpec> states_of(Home home) const;
};

// W <- (1 - lr weight_decay) W - lr update, the last phase of every rule that needs whole matrices. float32, one size.
void apply_update(core::Queue& queue, const core::Tensor& master, const Update& update, double lr, double weight_decay);

// A rule as a value: copies are rules of their own.
class AnyRule {
 public:
  // By its name in the table, with its defaults; Error that lists the names.
  AnyRule(std::string_view name);
  AnyRule(const char* name) : AnyRule(std::string_view(name)) {}
  AnyRule(std::unique_ptr<Rule> rule) : rule_(std::move(rule)) {}
  AnyRule(const AnyRule& other) : rule_(other.rule_->clone()) {}
  AnyRule(AnyRule&&) = default;
  AnyRule& operator=(const AnyRule& other) { return *this = AnyRule(other); }
  AnyRule& operator=(AnyRule&&) = default;
  ~AnyRule() = default;

  Rule* operator->() { return rule_.get(); }
  const Rule* operator->() const { return rule_.get(); }
  Rule& operator*() { return *rule_; }
  const Rule& operator*() const { return *rule_; }
  // The rule as what it is, to set its keys: config.matrices.rule.as<Muonp>().p = "1/3". std::bad_cast where it is another.
  template <class R>
  R& as() {
    return dynamic_cast<R&>(*rule_);
  }
  template <class R>
  const R& as() const {
    return dynamic_cast<const R&>(*rule_);
  }

 private:
  std::unique_ptr<Rule> rule_;
};

// The names in the table, in its order; all, or those of rules that move element by element.
std::vector<std::string_view> rule_names();
std::vector<std::string_view> elementwise_rule_names();

}  // namespace muonp::optim
