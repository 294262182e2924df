#include "dist/owner_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/error.h"
#include "core/hash.h"
#include "dist/shard_plan.h"

namespace muonp::dist {

namespace {

struct Load {
  double cost = 0;
  std::int64_t elements = 0;
  std::map<std::string, int> layers;  // matrices of each layer
};

// Greedy longest processing time (Graham 1969): at most 4/3 − 1/(3N) times the best possible maximum. Equal
// loads: the rank with fewer matrices of the same layer, then with fewer elements, then the lowest.
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
  std::vector<Load> loads(static_cast<std::size_t>(world_size));
  for (std::size_t t : order) {
    const std::string layer = layer_of(tasks[t].name);
    const auto key = [&](const Load& l) {
      const auto same = l.layers.find(layer);
      return std::tuple(l.cost, same == l.layers.end() ? 0 : same->second, l.elements);
    };
    const auto best = std::min_element(loads.begin(), loads.end(),
                                       [&](const Load& a, const Load& b) { return key(a) < key(b); });
    owner[t] = static_cast<int>(best - loads.begin());
    best->cost += tasks[t].cost;
    best->elements += tasks[t].elements;
    ++best->layers[layer];
  }
  return owner;
}

// One owner's matrices, cut into waves.
class WaveCutter {
 public:
  WaveCutter(const std::vector<MatrixTask>& tasks, std::vector<int> mine, std::int64_t limit)
      : tasks_(tasks), mine_(std::move(mine)), limit_(limit) {}

  // Fewest waves for the matrices from position `from` on, each filled up to the limit.
  int fewest(std::size_t from) const {
    int waves = 0;
    std::int64_t held = 0;
    for (std::size_t i = from; i < mine_.size(); ++i) {
      if (waves == 0 || (held > 0 && held + elements(i) > limit_)) {
        ++waves;
        held = 0;
      }
      held += elements(i);
    }
    return waves;
  }

  // Spread over `waves` ≥ fewest(0) waves of about equal cost, so that the owners keep step.
  void cut(int waves, std::vector<std::vector<int>>& to) const {
    const double total = std::accumulate(mine_.begin(), mine_.end(), 0.0,
                                         [&](double sum, int t) { return sum + task(t).cost; });
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
      to[static_cast<std::size_t>(wave)].push_back(mine_[i]);
      held += elements(i);
      done += task(mine_[i]).cost;
    }
  }

 private:
  const MatrixTask& task(int t) const { return tasks_[static_cast<std::size_t>(t)]; }
  std::int64_t elements(std::size_t i) const { return task(mine_[i]).elements; }
  const std::vector<MatrixTask>& tasks_;
  std::vector<int> mine_;
  std::int64_t limit_;
};

}  // namespace

OwnerPlan::OwnerPlan(std::vector<MatrixTask> tasks, int world_size, std::int64_t wave_elements)
    : tasks_(std::move(tasks)), world_size_(world_size) {
  MUONP_ASSERT(world_size >= 1, "a plan for {} ranks", world_size);
  MUONP_ASSERT(wave_elements >= 1, "waves of {} elements", wave_elements);
  for (const MatrixTask& t : tasks_)
    MUONP_ASSERT(t.cost >= 0 && t.elements >= 0, "{}: cost {}, {} elements", t.name, t.cost, t.elements);
  owner_ = assign(tasks_, world_size_);

  // Last parameters first, as their gradients complete in the backward pass.
  std::vector<int> order(tasks_.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const int x = tasks_[static_cast<std::size_t>(a)].parameter,
              y = tasks_[static_cast<std::size_t>(b)].parameter;
    return x != y ? x > y : a < b;
  });
  std::vector<std::vector<int>> of_rank(static_cast<std::size_t>(world_size_));
  for (int t : order) of_rank[static_cast<std::size_t>(owner(t))].push_back(t);
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

double OwnerPlan::load(int rank) const {
  double sum = 0;
  for (std::size_t t = 0; t < tasks_.size(); ++t)
    if (owner_[t] == rank) sum += tasks_[t].cost;
  return sum;
}

double OwnerPlan::imbalance() const {
  double most = 0, total = 0;
  for (int r = 0; r < world_size_; ++r) {
    most = std::max(most, load(r));
    total += load(r);
  }
  return total > 0 ? most * world_size_ / total : 1.0;
}

std::uint64_t OwnerPlan::hash() const {
  const std::string text = describe();
  return core::hash_bytes(text.data(), static_cast<std::int64_t>(text.size()));
}

// Without costs: plans that say the same are the same, whatever cost model led to them.
std::string OwnerPlan::describe() const {
  std::string text = fmt::format("{} matrices on {} ranks in {} waves", tasks_.size(), world_size_, waves());
  for (int w = 0; w < waves(); ++w)
    for (int t : wave(w)) {
      const MatrixTask& task = tasks_[static_cast<std::size_t>(t)];
      text += fmt::format("\n{} (parameter {}, {} elements): rank {}, wave {}", task.name, task.parameter,
                          task.elements, owner(t), w);
    }
  return text;
}

}  // namespace muonp::dist
