// Parameters that are sharded by ZeRO and cross the network as they are: gradients are reduced, matrices gathered to their
// owners, updates scattered, weights gathered. The walk of one gradient through this file is in docs/architecture.md.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/index.h"
#include "dist/zero/exact_transport.h"
#include "dist/zero/reducer.h"
#include "dist/zero/weight_gatherer.h"
#include "optim/engine/owner_side.h"
#include "optim/engine/part.h"
#include "optim/engine/shared_side.h"
#include "optim/plan/execution_plan.h"

namespace muonp::optim {

class ShardedPart final : public Part {
 public:
  // `parameters`: the plan's sharded ones. Their values are allocated here and are undefined until initialized() or
  // loaded(). `sharing` times what is waited for between ranks that share a matrix, which is within the time of matrices.
  ShardedPart(core::Device& device, core::ParameterList parameters, const ExecutionPlan& plan,
              dist::Communicator& communicator, dist::AsyncQueue& async, core::Stopwatch& measuring,
              core::Stopwatch& sharing);

  core::GradientSlot slot(core::Parameter& parameter) override { return reducer_.slot(parameter); }
  void complete(core::Parameter& parameter) override { reducer_.complete(parameter); }

  void fill(int parameter, const core::WeightFiller& fill) override { parameters_.fill(parameter, fill); }
  void initialized() override;
  void begin_pass(bool first, bool last) override { reducer_.begin_pass(first, last); }
  void finish_passes() override { reducer_.finish(); }
  NormPiece norm_piece(int parameter) const override;
  void update(const StepInputs& inputs, core::Stopwatch& matrix_time) override;
  std::vector<MeasuredMatrix> take_measured() override { return diagnostics_.take(); }
  std::vector<StateTensor> state(bool for_saving) const override;
  std::vector<ShownState> shown(std::int64_t step) const override { return owner_.shown(step); }
  void loaded() override { parameters_.publish(communicator_); }
  std::uint64_t weights_hash(std::uint64_t) override { return parameters_.weights_hash(communicator_); }

  // Weights of rules that evaluate an average become it, and are what they were again. Collective.
  void hold_averages();
  void release_weights();
  // The same of rules with Needs::old_gradient and the weights of the step before; and after the passes with those, which
  // have finished: the gradients are kept.
  void hold_old_weights();
  void keep_old_gradients();

  dist::WeightGatherer& weights() { return *weights_; }
  const dist::ShardedParameters& parameters() const { return parameters_; }
  void observe_inputs(std::function<void(const std::string& name, const core::Tensor& input)> observe) {
    observe_ = std::move(observe);
  }

 private:
  struct Shard {  // of a parameter on this rank
    core::Tensor master;
    std::vector<StoredState> states;  // those with Home::shard, in the order of Rule::states()
  };
  StepFacts facts(int parameter, const StepInputs& inputs) const;
  GradientSum gradient_sum(int parameter) const { return {reducer_.reduced(parameter)}; }
  // Weights become the state of that index of the rules whose weights it begins as.
  void hold_states(int state);
  void move(int parameter, const StepInputs& inputs);
  Direction direction(int parameter, const StepInputs& inputs);
  // Of the matrices that this rank owns whose rule needs it, the Gram matrix of the other factor. Collective.
  void compute_grams();
  core::Tensor whole_masters(int bucket);
  // Of a wave's matrices, those that this rank owns whole, then those that ranks share. Collective.
  void compute(const dist::Wave& wave, const StepInputs& inputs);
  // Spectra of a wave's matrices, which this rank owns and whose updates are computed: their weights are gathered.
  // Collective.
  void measure(const dist::Wave& wave);
  std::vector<core::Tensor> masters_of(int wave);
  void apply(int parameter, const Update& update, const StepInputs& inputs);
  void scale(int parameter, const StepInputs& inputs);
  void publish_when_complete(int parameter);
  const GroupConfig& config_of(int parameter) const { return plan_.sharded_groups.group_for(parameter).config; }
  int parameter_of(int task) const { return plan_.owners.tasks()[core::at(task)].parameter; }

  core::Device& device_;
  const ExecutionPlan& plan_;
  dist::Communicator& communicator_;
  dist::AsyncQueue& async_;
  core::Stopwatch& measuring_;
  dist::ShardedParameters parameters_;
  dist::GradientReducer reducer_;
  std::unique_ptr<dist::WeightGatherer> weights_;
  std::vector<Shard> mine_;  // by parameter
  OwnerSide owner_;
  SharedSide shared_;
  Diagnostics diagnostics_;
  std::map<int, LoraPair> pairs_;              // of one step, by parameter
  std::vector<int> pending_;                   // by bucket: parameters not updated in this step
  std::map<int, std::vector<float>> trained_;  // by parameter: master weights whose place an average holds
  std::function<void(const std::string&, const core::Tensor&)> observe_;
};

}  // namespace muonp::optim
