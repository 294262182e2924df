#include "dist/plan/owner_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/plan/shard_plan.h"

namespace muonp::dist {

namespace {

struct Load {
  double cost = 0;
  std::int64_t elements = 0;
  int rank = 0;
  auto operator<=>(const Load&) const = default;
};

// What each rank has, the least loaded first. To choose one looks at no more ranks than have a matrix of the same layer, so
// that a plan costs about as much for ten thousand ranks as for ten.
class Loads {
 public:
  explicit Loads(int world_size) : layers_(static_cast<std::size_t>(world_size)) {
    for (int r = 0; r < world_size; ++r) by_load_.insert(by_load_.end(), {.cost = 0, .elements = 0, .rank = r});
  }

  // Gives the matrix to the rank with the least cost; among equals to one with the fewest matrices of the same layer, then
  // with the fewest elements, then the lowest.
  int take(const MatrixTask& task) {
    const std::string layer = layer_of(task.name);
    auto best = by_load_.begin();
    int fewest = in_layer(best->rank, layer);
    for (auto other = best; fewest > 0 && ++other != by_load_.end() && other->cost == by_load_.begin()->cost;)
      if (const int same = in_layer(other->rank, layer); same < fewest) {
        best = other;
        fewest = same;
      }
    auto moved = by_load_.extract(best);
    moved.value().cost += task.cost;
    moved.value().elements += task.elements;
    const int rank = moved.value().rank;
    ++layers_[core::at(rank)][layer];
    by_load_.insert(std::move(moved));
    return rank;
  }

 private:
  int in_layer(int rank, const std::string& layer) const {
    const auto& layers = layers_[core::at(rank)];
    const auto found = layers.find(layer);
    return found == layers.end() ? 0 : found->second;
  }
  std::set<Load> by_load_;
  std::vector<std::map<std::string, int>> layers_;  // by rank: matrices of each layer
};

// Greedy longest processing time (Graham 1969): at most 4/3 − 1/(3N) times the best possible maximum.
std::vector<int> assign(const std::vector<MatrixTask>& tasks, int world_size) {
  std::vector<std::size_t> order(tasks.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const MatrixTask &x = tasks[a], &y = tasks[b];
    if (x.cost != y.cost) return x.cost > y.cost;
    if (x.elements != y.elements) return x.elements > y.elements;
    return x.name != y.name ? x.name < y.name : a < b;
  });
  std::vector<int> owner(tasks.size());
  Loads loads(world_size);
  for (std::size_t t : order) owner[t] = loads.take(tasks[t]);
  return owner;
}

// One owner's matrices, cut into waves.
class WaveCutter {
 public:
  WaveCutter(const std::vector<MatrixTask>& tasks, std::vector<int> mine, std::int64_t limit)
      : tasks_(tasks), mine_(std::move(mine)), limit_(limit), fewest_(mine_.size() + 1, 0) {
    std::size_t end = mine_.size();  // of the wave that begins at `from`, filled up to the limit
    std::int64_t held = 0;
    for (std::size_t from = mine_.size(); from-- > 0;) {
      held += elements(from);
      while (held > limit_ && held > elements(from)) held -= elements(--end);
      fewest_[from] = 1 + fewest_[end];
    }
  }

  // Fewest waves for the matrices from position `from` on, each filled up to the limit.
  int fewest(std::size_t from) const { return fewest_[from]; }

  // Spread over `waves` ≥ fewest(0) waves of about equal cost, so that the owners keep step.
  void cut(int waves, std::vector<std::vector<int>>& to) const {
    const double total =
        std::accumulate(mine_.begin(), mine_.end(), 0.0, [&](double sum, int t) { return sum + task(t).cost; });
    int wave = 0;
    double done = 0;
    std::int64_t held = 0;
    for (std::size_t i = 0; i < mine_.size(); ++i) {
      const bool full = held > 0 && held + elements(i) > limit_;
      const bool enough = held > 0 && done >= total * (wave + 1) / waves && fewest(i) < waves - wave;
      if (full || enough) {
        ++wave;
        held = 0;
      }
      to[core::at(wave)].push_back(mine_[i]);
      held += elements(i);
      done += task(mine_[i]).cost;
    }
  }

 private:
  const MatrixTask& task(int t) const { return tasks_[core::at(t)]; }
  std::int64_t elements(std::size_t i) const { return task(mine_[i]).elements; }
  const std::vector<MatrixTask>& tasks_;
  std::vector<int> mine_;
  std::int64_t limit_;
  std::vector<int> fewest_;  // by position
};

}  // namespace

OwnerPlan::OwnerPlan(std::vector<MatrixTask> tasks, int world_size, std::int64_t wave_elements)
    : tasks_(std::move(tasks)), world_size_(world_size) {
  MUONP_ASSERT(world_size >= 1, "a plan for {} ranks", world_size);
  MUONP_ASSERT(wave_elements >= 1, "waves of {} elements", wave_elements);
  for (const MatrixTask& t : tasks_)
    MUONP_ASSERT(t.cost >= 0 && t.elements >= 0, "{}: cost {}, {} elements", t.name, t.cost, t.elements);
  owner_ = assign(tasks_, world_size_);
  load_.assign(static_cast<std::size_t>(world_size_), 0.0);
  for (std::size_t t = 0; t < tasks_.size(); ++t) load_[core::at(owner_[t])] += tasks_[t].cost;

  // Last parameters first, as their gradients complete in the backward pass.
  std::vector<int> order(tasks_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const int x = tasks_[core::at(a)].parameter, y = tasks_[core::at(b)].parameter;
    return x != y ? x > y : a < b;
  });
  std::vector<std::vector<int>> of_rank(static_cast<std::size_t>(world_size_));
  for (int t : order) of_rank[core::at(owner(t))].push_back(t);
  std::vector<WaveCutter> cutters;
  int waves = 0;
  for (std::vector<int>& mine : of_rank) {
    cutters.emplace_back(tasks_, std::move(mine), wave_elements);
    waves = std::max(waves, cutters.back().fewest(0));
  }
  waves_.resize(static_cast<std::size_t>(waves));
  for (const WaveCutter& cutter : cutters) cutter.cut(waves, waves_);
  for (std::vector<int>& wave : waves_) std::sort(wave.begin(), wave.end());
}

double OwnerPlan::imbalance() const {
  const double total = std::accumulate(load_.begin(), load_.end(), 0.0);
  return total > 0 ? *std::ranges::max_element(load_) * world_size_ / total : 1.0;
}

std::uint64_t OwnerPlan::hash() const {
  const std::string text = describe();
  return core::hash_bytes(text.data(), std::ssize(text));
}

// Without costs: plans that say the same are the same, whatever cost model led to them.
std::string OwnerPlan::describe() const {
  std::string text = fmt::format("{} matrices on {} ranks in {} waves", tasks_.size(), world_size_, waves());
  for (int w = 0; w < waves(); ++w)
    for (int t : wave(w)) {
      const MatrixTask& task = tasks_[core::at(t)];
      text += fmt::format("\n{} (parameter {}, {} elements): rank {}, wave {}", task.name, task.parameter, task.elements,
                          owner(t), w);
    }
  return text;
}

}  // namespace muonp::dist
