// The optimizer of a data-parallel trainer: shards the parameters over ranks, reduces gradients during the
// backward pass, moves every matrix by its rule on its owner rank, and makes the weights whole again. This is
// the class that another trainer embeds:
//
//   // for_run: where schedules are relative to the run
//   optim::DistributedOptimizer optimizer(device, parameters, config.for_run(steps), options, communicator);
//   optimizer.initialize(seed);                                  // or load the state
//   for (...) {
//     optimizer.begin_pass(/*first=*/true, /*last=*/true);       // once per micro-batch
//     ... backward pass, gradients go to optimizer.gradients() ...
//     const optim::GradientNorm norm = optimizer.prepare();
//     if (norm.finite) optimizer.apply(lr_factor); else optimizer.skip();
//   }
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/stopwatch.h"
#include "dist/comm/async.h"
#include "optim/engine/feedback_part.h"
#include "optim/engine/frozen_weights.h"
#include "optim/engine/sharded_part.h"
#include "optim/engine/state.h"

namespace muonp::optim {

class DistributedOptimizer {
 public:
  // Collective: compares the plan over all ranks. `parameters`: all of the model, also frozen ones, of which there are
  // weights and nothing else. Values are allocated here and are undefined until initialize(), or load_state() and
  // fill_frozen().
  DistributedOptimizer(core::Device& device, const core::ParameterList& parameters, const OptimizerConfig& config,
                       const ParallelOptions& options, dist::Communicator& communicator);
  ~DistributedOptimizer();

  // Initial weights from the seed, the same for any number of ranks. Collective.
  void initialize(std::uint64_t seed);
  // From a source that may fail: each rank asks it for the parts that it keeps, parameter by parameter. After each all ranks
  // hear of failures, which every rank then throws as a dist::AgreedError, and call `met`, which may be collective.
  void initialize(const core::WeightFiller& fill, const std::function<void(const core::Parameter&)>& met);
  // The same of frozen parameters alone, which no checkpoint holds.
  void fill_frozen(const core::WeightFiller& fill, const std::function<void(const core::Parameter&)>& met);

  // Before the forward pass of each micro-batch of a step. first: of its micro-batches; last: reduce during this pass.
  void begin_pass(bool first, bool last);
  // Before a forward pass without a backward pass, in which every rank takes part at stage 3; wait_for_weights() after.
  void begin_evaluation() { begin_weights(/*backward=*/false); }
  // Around evaluations that are no part of a step: weights of rules that evaluate an average (Rule::evaluates_average)
  // become it, and are what they were again. No step and no state between the two. Collective; nothing to do for other
  // rules.
  void hold_averages();
  void release_averages();
  // Where needs_old_gradients(), for rules with Needs::old_gradient: before the passes of a step, the same passes between
  // the two, with the weights of the step before. Collective.
  bool needs_old_gradients() const;
  void hold_old_weights();
  void keep_old_gradients();
  core::GradientSink& gradients();

  // A step, after its last pass. prepare() waits for the reduction and changes nothing; the caller decides, on all ranks
  // alike; then apply() updates everything and makes weights whole, or skip() leaves all as it is. The learning rate of each
  // group is its own times lr_factor. Collective. Error (and no update of the matrix) if a recurrence diverges;
  // InternalError from apply() after a norm that is not finite, or without a loss that a rule needs.
  GradientNorm prepare();
  StepReport apply(double lr_factor, const StepOptions& how = {});
  StepReport skip();
  // The three in one: skips where the norm is not finite.
  StepReport step(double lr_factor, const StepOptions& how = {});

  // At stage 3 nothing is sent in a step: weights are whole in passes only, for who acquires them here.
  core::WeightSource& weights();
  void wait_for_weights() { finish_weights(); }
  // When this rank stood still for communication since the last call or step, which reports the rest.
  core::Laps take_waits() { return waits_.take(); }

  std::int64_t steps() const { return steps_; }
  const ExecutionPlan& plan() const { return plan_; }
  const dist::ShardedParameters& parameters() const { return sharded_->parameters(); }

  // What a checkpoint holds of this rank. Parts of all ranks together cover each tensor exactly once.
  std::vector<StateTensor> state_to_save() const { return state(true); }
  // What this rank needs back; `fill` writes each tensor's interval. Then weights are made whole. Collective.
  void load_state(std::int64_t steps, const std::function<void(const StateTensor&)>& fill);

  // Error on all ranks if their weights differ. Collective.
  void require_equal_weights();
  // Gathered matrices are shown to `observe` before each spectral step (tests).
  void observe_inputs(std::function<void(const std::string& name, const core::Tensor& input)> observe) {
    sharded_->observe_inputs(std::move(observe));
  }

 private:
  class ByParameter;  // to the part that has a parameter
  struct Place {
    Part* part;
    int index;  // within it
  };
  std::vector<StateTensor> state(bool for_saving) const;
  void begin_weights(bool backward);
  void finish_weights();
  void fill_on_all(const core::Parameter& parameter, const std::function<void()>& fill,
                   const std::function<void(const core::Parameter&)>& met);
  std::vector<double> reduced_squares();
  std::vector<ShownState> shown_states();
  StepReport report();
  bool has_averages() const;
  std::vector<MatrixRecord> gather_spectra();

  core::Device& device_;
  core::ParameterList parameters_;  // the model's trained ones
  dist::Communicator& communicator_;
  double clip_;  // largest gradient norm; 0: no limit
  ExecutionPlan plan_;
  core::Stopwatch waits_, matrix_time_, measuring_, sharing_;
  std::unique_ptr<ShardedPart> sharded_;
  std::unique_ptr<FeedbackPart> feedback_;  // null where nothing is compressed
  std::unique_ptr<FrozenWeights> frozen_;   // null where nothing is frozen
  std::vector<Part*> parts_;                // the two, those that are there
  std::vector<Place> places_;               // by trained parameter
  std::unique_ptr<ByParameter> by_parameter_;
  std::int64_t steps_ = 0;
  GradientNorm prepared_;
  std::vector<double> norms_;                // of a prepared step, by trained parameter; 0 where no rule needs it
  std::unique_ptr<dist::AsyncQueue> async_;  // its work uses the above, which it must not outlive
};

}  // namespace muonp::optim
