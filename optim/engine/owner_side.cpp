#include "optim/engine/owner_side.h"

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/device/offload.h"
#include "optim/plan/execution_plan.h"

namespace muonp::optim {

using core::at;
using core::Category;
using core::Dtype;
using core::Tensor;

OwnerSide::OwnerSide(core::Device& device, const dist::OwnerPlan& owners, const Groups& groups,
                     const std::vector<dist::ParameterSpec>& specs, int rank, bool offload)
    : device_(device), owners_(owners), groups_(groups), specs_(specs) {
  for (const Group& group : groups.groups())
    steps_.push_back(group.config.whole_matrices() ? group.config.rule->matrix_step(device.kind()) : nullptr);
  states_.resize(owners.tasks().size());
  for (int t = 0; t < core::to_int(owners.tasks().size()); ++t) {
    const int p = owners.tasks()[at(t)].parameter;
    if (owners.owner(t) != rank) continue;
    for (const OwnerState& state : owner_states(groups, specs[at(p)], p))
      states_[at(t)].push_back(core::zeros_in(offload, device, state.shape, Dtype::float32, Category::optimizer));
  }
}

MatrixInput OwnerSide::input_of(const Matrix& matrix) const {
  const int p = owners_.tasks()[at(matrix.task)].parameter;
  MatrixInput input{.name = specs_[at(p)].name,
                    .shape = specs_[at(p)].shape,
                    .split = groups_.split_of(p),
                    .in = matrix.in,
                    .out = matrix.out,
                    .facts = matrix.facts,
                    .pair = matrix.pair};
  for (const Tensor& state : states_[at(matrix.task)]) {
    input.states.push_back(state);
    if (!state.in_host_memory()) continue;
    input.states.back() = Tensor::empty(device_, state.shape(), Dtype::float32, Category::optimizer);
    device_.queue().write(input.states.back().raw(), state.raw(), state.bytes());
  }
  return input;
}

void OwnerSide::compute(std::int64_t step, std::span<const Matrix> matrices) {
  std::vector<std::vector<MatrixInput>> inputs(steps_.size());
  std::vector<std::vector<int>> tasks(steps_.size());
  for (const Matrix& matrix : matrices) {
    const auto group = at(groups_.group_of(owners_.tasks()[at(matrix.task)].parameter));
    inputs[group].push_back(input_of(matrix));
    tasks[group].push_back(matrix.task);
  }
  for (std::size_t g = 0; g < inputs.size(); ++g) {
    if (inputs[g].empty()) continue;
    steps_[g]->compute(device_, step, inputs[g]);
    for (std::size_t i = 0; i < inputs[g].size(); ++i)  // what lies in host memory goes back
      for (std::size_t s = 0; s < inputs[g][i].states.size(); ++s)
        if (const Tensor& home = states_[at(tasks[g][i])][s]; home.in_host_memory())
          device_.queue().read(home.raw(), inputs[g][i].states[s].raw(), home.bytes());
  }
}

void OwnerSide::add_state(std::vector<StateTensor>& to) const {
  for (int t = 0; t < core::to_int(states_.size()); ++t) {
    if (states_[at(t)].empty()) continue;
    const int p = owners_.tasks()[at(t)].parameter;
    const std::vector<OwnerState> specs = owner_states(groups_, specs_[at(p)], p);
    for (std::size_t s = 0; s < specs.size(); ++s) {
      const Tensor& state = states_[at(t)][s];
      if (state.size() > 0)
        to.push_back({fmt::format("{}/{}", specs_[at(p)].name, specs[s].name),
                      specs[s].shape,
                      {0, state.size()},
                      state.flat(0, state.size())});
    }
  }
}

}  // namespace muonp::optim
