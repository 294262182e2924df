// Which rank computes which matrix, and in which wave of the pipeline. A pure function of its arguments.
#pragma once

#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/plan/rectangle.h"
#include "dist/plan/shard_plan.h"

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::dist {

struct MatrixTask {
  std::string name;   // of the parameter (all parts of a fused one go together)
  int parameter = 0;  // index in the shard plan
  double cost = 0;    // seconds or flops of its spectral step, any one unit
  std::int64_t elements = 0;
  // Where ranks can share it: its matrices, all of its elements, and between how many; each then has 1/g of the cost.
  std::vector<Rectangle> matrices = {};
  int most_owners = 1;
};

// Whether a matrix belongs to one rank, or may to a group of ranks that share it. `automatic`: groups are the smallest with
// which no rank has more than kBalanced times the mean; `groups`: the same, but every matrix that can be is shared.
enum class Owners : std::uint8_t { whole, groups, automatic };
inline constexpr double kBalanced = 1.05;

class OwnerPlan {
 public:
  // Greedy longest processing time by cost, then by elements, ties by name. `wave_elements` bounds what one
  // owner holds in one wave (a matrix larger than that is a wave of its own); every rank has the same number
  // of waves. Groups (`owners`) are 2, 4, 8, ... ranks, or all, one after the other from a multiple of their number on, so
  // that those of a node share.
  OwnerPlan(std::vector<MatrixTask> tasks, int world_size, std::int64_t wave_elements, Owners owners = Owners::whole);

  const std::vector<MatrixTask>& tasks() const { return tasks_; }
  int owner(int task) const { return owner_[core::at(task)]; }  // of a group the first
  int group_size(int task) const { return group_size_[core::at(task)]; }
  bool is_shared(int task) const { return group_size(task) > 1; }
  Interval group(int task) const { return {owner(task), owner(task) + group_size(task)}; }
  bool owns(int rank, int task) const { return rank >= group(task).begin && rank < group(task).end; }
  // Elements of the matrix that an owner has, at most.
  std::int64_t share_elements(int task) const;
  // The rectangles of a shared one that a rank of its group has.
  std::vector<Rectangle> share(int task, int rank) const;
  // The shared matrices of a wave in turns, of which in each every rank has one at most.
  const std::vector<std::vector<int>>& turns(int w) const { return turns_[core::at(w)]; }
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
  std::vector<int> owner_, group_size_;
  std::vector<double> load_;  // by rank
  std::vector<std::vector<int>> waves_;
  std::vector<std::vector<std::vector<int>>> turns_;  // by wave

  void cut_waves(std::int64_t wave_elements);
  void cut_waves_of_groups(std::int64_t wave_elements);
  void find_turns();
};

}  // namespace muonp::dist
