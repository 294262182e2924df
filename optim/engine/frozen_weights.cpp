#include "optim/engine/frozen_weights.h"

#include <utility>

namespace muonp::optim {

FrozenWeights::FrozenWeights(core::Device& device, core::ParameterList parameters, const ExecutionPlan& plan,
                             dist::Communicator& communicator, dist::AsyncQueue& async)
    : communicator_(communicator),
      parameters_(device, std::move(parameters), *plan.frozen, communicator.rank(), plan.zero, plan.options.weight_dtype,
                  dist::Masters::none) {
  if (plan.frozen_gathers)
    gatherer_ = std::make_unique<dist::PassGatherer>(parameters_, *plan.frozen_gathers, communicator, async);
}

void FrozenWeights::begin_pass(bool backward) {
  if (gatherer_) gatherer_->begin_pass(backward);
}

void FrozenWeights::acquire(std::span<core::Parameter* const> parameters) {
  if (gatherer_) gatherer_->acquire(parameters);
}

void FrozenWeights::finish() {
  if (gatherer_) gatherer_->finish();
}

}  // namespace muonp::optim
