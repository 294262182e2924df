#include "dist/plan/group_packing.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

namespace muonp::dist {

namespace {

using core::at;

// Groups of one size, the one whose busiest rank has least to do first.
class Level {
 public:
  Level(int size, int world_size) : size_(size), most_(at(world_size / size), 0.0) {
    for (int b = 0; b < core::to_int(most_.size()); ++b) order_.insert(order_.end(), {0.0, b});
  }
  int size() const { return size_; }
  double least() const { return order_.begin()->first; }
  int first() const { return order_.begin()->second * size_; }
  // A rank has so much now.
  void raise(int rank, double load) {
    const int b = rank / size_;
    if (b >= core::to_int(most_.size()) || load <= most_[at(b)]) return;
    order_.erase({most_[at(b)], b});
    most_[at(b)] = load;
    order_.insert({load, b});
  }

 private:
  int size_;
  std::vector<double> most_;
  std::set<std::pair<double, int>> order_;
};

class Packing {
 public:
  explicit Packing(int world_size) : load_(at(world_size), 0.0) {
    for (int size = 1; size < world_size; size *= 2) levels_.emplace_back(size, world_size);
    levels_.emplace_back(world_size, world_size);
  }

  std::optional<GroupPlace> take(const MatrixTask& task, int least, double limit) {
    const int most = std::min(task.most_owners, core::to_int(load_.size()));
    for (const Level& level : levels_) {
      const int size = level.size();
      if (size > most) break;
      if (size < least && 2 * size <= most) continue;
      if (level.least() + task.cost / size > limit) continue;
      const GroupPlace place{level.first(), size};
      for (int r = place.first; r < place.first + size; ++r) {
        load_[at(r)] += task.cost / size;
        for (Level& of : levels_) of.raise(r, load_[at(r)]);
      }
      return place;
    }
    return std::nullopt;
  }

 private:
  std::vector<double> load_;
  std::vector<Level> levels_;
};

std::vector<std::size_t> costliest_first(const std::vector<MatrixTask>& tasks) {
  std::vector<std::size_t> order(tasks.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return tasks[a].cost > tasks[b].cost; });
  return order;
}

bool pack(const std::vector<MatrixTask>& tasks, int world_size, int least, double limit, std::vector<GroupPlace>& places) {
  Packing packing(world_size);
  for (const std::size_t t : costliest_first(tasks)) {
    const std::optional<GroupPlace> place = packing.take(tasks[t], least, limit);
    if (!place) return false;
    places[t] = *place;
  }
  return true;
}

}  // namespace

std::vector<GroupPlace> pack_groups(const std::vector<MatrixTask>& tasks, int world_size, int least, double balance) {
  constexpr double kNextBalance = 1.02;
  double total = 0;
  for (const MatrixTask& t : tasks) total += t.cost;
  std::vector<GroupPlace> places(tasks.size());
  while (!pack(tasks, world_size, least, balance * total / world_size, places)) balance *= kNextBalance;
  return places;
}

}  // namespace muonp::dist
