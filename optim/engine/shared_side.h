// The matrices that this rank shares with others: its part of them, in turns.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/device/stopwatch.h"
#include "dist/comm/async.h"
#include "dist/plan/owner_plan.h"
#include "optim/plan/groups.h"

namespace muonp::optim {

class SharedSide {
 public:
  // `waits` times the exchanges between ranks that share. What is given by reference outlives this object.
  SharedSide(core::Device& device, const dist::OwnerPlan& owners, const Groups& groups,
             const std::vector<dist::ParameterSpec>& specs, dist::Communicator& communicator, dist::AsyncQueue& async,
             core::Stopwatch& waits);

  struct Part {
    int task;
    core::Tensor in, out;  // of the rectangles that this rank has, one behind the other
    StepFacts facts;
  };
  // The shared matrices of a wave, of which `mine` are those that this rank shares. Collective.
  void compute(std::int64_t step, int wave, std::span<const Part> mine);

 private:
  MatrixStep& step_of(int task) const;
  MatrixInput input_of(int task) const;

  core::Device& device_;
  const dist::OwnerPlan& owners_;
  const Groups& groups_;
  const std::vector<dist::ParameterSpec>& specs_;
  dist::Communicator& communicator_;
  dist::AsyncQueue& async_;
  core::Stopwatch& waits_;
  std::vector<std::unique_ptr<MatrixStep>> steps_;  // by group
  std::vector<std::vector<int>> exchanges_;         // by wave and turn: as many as the matrix with most of them takes
};

}  // namespace muonp::optim
