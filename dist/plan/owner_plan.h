// Which rank computes which matrix, and in which wave of the pipeline. A pure function of its arguments.
#pragma once

#include "core/base/index.h"
#include "core/base/math.h"

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::dist {

struct MatrixTask {
  std::string name;   // of the parameter (all parts of a fused one go together)
  int parameter = 0;  // index in the shard plan
  double cost = 0;    // seconds or flops of its spectral step, any one unit
  std::int64_t elements = 0;
};

class OwnerPlan {
 public:
  // Greedy longest processing time by cost, then by elements, ties by name. `wave_elements` bounds what one
  // owner holds in one wave (a matrix larger than that is a wave of its own); every rank has the same number
  // of waves.
  OwnerPlan(std::vector<MatrixTask> tasks, int world_size, std::int64_t wave_elements);

  const std::vector<MatrixTask>& tasks() const { return tasks_; }
  int owner(int task) const { return owner_[core::at(task)]; }
  int waves() const { return core::to_int(waves_.size()); }
  // Task indices of one wave, all owners together, in ascending order.
  const std::vector<int>& wave(int w) const { return waves_[core::at(w)]; }

  double load(int rank) const { return load_[core::at(rank)]; }  // sum of cost
  double imbalance() const;                                      // max load / mean load; 1 when there are no tasks
  std::uint64_t hash() const;
  std::string describe() const;

 private:
  std::vector<MatrixTask> tasks_;
  int world_size_;
  std::vector<int> owner_;
  std::vector<double> load_;  // by rank
  std::vector<std::vector<int>> waves_;
};

}  // namespace muonp::dist
