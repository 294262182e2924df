// The optimizer of a data-parallel trainer: shards the parameters over ranks, reduces gradients during the
// backward pass, moves every matrix by its rule on its owner rank, and makes the weights whole again. This is
// the class that another trainer embeds:
//
//   optim::DistributedOptimizer optimizer(device, parameters, config, options, communicator);
//   optimizer.initialize(seed);                                  // or load the state
//   for (...) {
//     optimizer.begin_pass(/*first=*/true, /*last=*/true);       // once per micro-batch
//     ... backward pass, gradients go to optimizer.gradients() ...
//     optimizer.step(lr_factor);
//   }
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/stopwatch.h"
#include "dist/comm/async.h"
#include "dist/comm/communicator.h"
#include "dist/zero/owner_exchange.h"
#include "dist/zero/reducer.h"
#include "dist/zero/sharded_parameters.h"
#include "dist/zero/weight_gatherer.h"
#include "optim/engine/compressed_optimizer.h"
#include "optim/engine/state.h"
#include "optim/plan/execution_plan.h"
#include "optim/rules/matrix_step.h"

namespace muonp::optim {

class DistributedOptimizer {
 public:
  // Collective: compares the plan over all ranks. The parameters' values are allocated here and are undefined
  // until initialize() or load_state().
  DistributedOptimizer(core::Device& device, const core::ParameterList& parameters,
                       const OptimizerConfig& config, const ParallelOptions& options,
                       dist::Communicator& communicator);
  ~DistributedOptimizer();

  // Initial weights from the seed, the same for any number of ranks. Collective.
  void initialize(std::uint64_t seed);

  // Before the forward pass of each micro-batch of a step. first: of its micro-batches; last: reduce during this pass.
  void begin_pass(bool first, bool last);
  // Before a forward pass without a backward pass, in which every rank takes part at stage 3; wait_for_weights() after.
  void begin_evaluation() { weights_->begin_pass(/*backward=*/false); }
  core::GradientSink& gradients();
  // After the last pass: waits for the reduction, updates everything, makes weights whole. The learning rate
  // of each group is its own times lr_factor. Collective. Error (and no update of the matrix) if a recurrence
  // diverges. `wait` false: weights may still be on their way when it returns, behind the next forward pass; only a tape
  // that was given weights() may read them until wait_for_weights(). `refuse` is asked on every rank when the gradients are
  // reduced and nothing has been changed; it may communicate, and its answer is the same on all ranks: true skips the step.
  StepReport step(double lr_factor, bool wait = true, const std::function<bool()>& refuse = {});
  // At stage 3 nothing is sent in a step: weights are whole in passes only, for who acquires them here.
  core::WeightSource& weights();
  void wait_for_weights() { weights_->finish(); }
  // When this rank stood still for communication since the last call or step(), which reports the rest.
  core::Laps take_waits() { return waits_.take(); }

  std::int64_t steps() const { return steps_; }
  const ExecutionPlan& plan() const { return plan_; }
  const dist::ShardedParameters& parameters() const { return *parameters_; }

  // What a checkpoint holds of this rank. Parts of all ranks together cover each tensor exactly once.
  std::vector<StateTensor> state_to_save() const;
  // What this rank needs back; `fill` writes each tensor's interval. Then weights are made whole. Collective.
  void load_state(std::int64_t steps, const std::function<void(const StateTensor&)>& fill);

  // Error on all ranks if their weights differ. Collective.
  void require_equal_weights();
  // Gathered matrices are shown to `observe` before each spectral step (tests).
  void observe_inputs(std::function<void(const std::string& name, const core::Tensor& input)> observe) {
    observe_ = std::move(observe);
  }

 private:
  struct Kept;    // a sharded parameter's state on this rank
  class Router;   // to what shards a parameter, or to what compresses it
  std::vector<StateTensor> state(bool for_saving) const;
  double reduce_norm();
  SquareSum squares_of_slice(int parameter) const;
  void update(double lr_factor, double clip);
  void update_elementwise(int parameter, double lr_factor, double gradient_scale);
  void update_matrices(double lr_factor, double gradient_scale);
  void compute_wave(std::span<const dist::OwnedMatrix> matrices);
  void publish_when_complete(int parameter);

  core::Device& device_;
  dist::Communicator& communicator_;
  double clip_;  // largest gradient norm; 0: no limit
  ExecutionPlan plan_;
  core::Stopwatch waits_, spectral_;
  std::unique_ptr<dist::ShardedParameters> parameters_;
  std::unique_ptr<dist::GradientReducer> reducer_;
  std::unique_ptr<dist::OwnerExchange> exchange_;
  std::unique_ptr<dist::WeightGatherer> weights_;
  std::vector<std::unique_ptr<MatrixStep>> matrix_steps_;  // by group; null for elementwise rules
  std::vector<Kept> kept_;                                 // by sharded parameter
  std::unique_ptr<CompressedOptimizer> compressed_;        // null where nothing is compressed
  std::unique_ptr<Router> router_;
  std::vector<int> pending_;                               // by bucket: parameters not updated in this step
  std::function<void(const std::string&, const core::Tensor&)> observe_;
  std::int64_t steps_ = 0;
  std::unique_ptr<dist::AsyncQueue> async_;                // its work uses the above, which it must not outlive
};

}  // namespace muonp::optim
