// What a rank does and keeps for the matrices that it owns.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dist/plan/owner_plan.h"
#include "optim/engine/state.h"
#include "optim/plan/groups.h"

namespace muonp::optim {

class OwnerSide {
 public:
  // Allocates the states that live with the owner, of the tasks that `rank` owns. offload: in host memory. What is given by
  // reference outlives this object.
  OwnerSide(core::Device& device, const dist::OwnerPlan& owners, const Groups& groups,
            const std::vector<dist::ParameterSpec>& specs, int rank, bool offload);

  struct Matrix {
    int task;
    core::Tensor in, out;  // direction and update, of the parameter's elements
    StepFacts facts;
    std::optional<LoraPair> pair = {};
  };
  // The updates of matrices of one wave, each by its group's rule.
  void compute(std::int64_t step, std::span<const Matrix> matrices);
  // Adds the states of this rank, the same for saving and loading.
  void add_state(std::vector<StateTensor>& to) const;

 private:
  MatrixInput input_of(const Matrix& matrix) const;

  core::Device& device_;
  const dist::OwnerPlan& owners_;
  const Groups& groups_;
  const std::vector<dist::ParameterSpec>& specs_;
  std::vector<std::unique_ptr<MatrixStep>> steps_;  // by group; null where the rule goes element by element
  std::vector<std::vector<core::Tensor>> states_;   // by task; empty where another rank owns it
};

}  // namespace muonp::optim
