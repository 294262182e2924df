#include "dist/plan/owner_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <span>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/index.h"
#include "core/base/math.h"
#include "dist/plan/group_packing.h"

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

OwnerPlan::OwnerPlan(std::vector<MatrixTask> tasks, int world_size, std::int64_t wave_elements, Owners owners)
    : tasks_(std::move(tasks)), world_size_(world_size), group_size_(tasks_.size(), 1) {
  MUONP_ASSERT(world_size >= 1, "a plan for {} ranks", world_size);
  MUONP_ASSERT(wave_elements >= 1, "waves of {} elements", wave_elements);
  for (const MatrixTask& t : tasks_)
    MUONP_ASSERT(t.cost >= 0 && t.elements >= 0, "{}: cost {}, {} elements", t.name, t.cost, t.elements);
  owner_ = assign(tasks_, world_size_);
  load_.assign(static_cast<std::size_t>(world_size_), 0.0);
  for (std::size_t t = 0; t < tasks_.size(); ++t) load_[core::at(owner_[t])] += tasks_[t].cost;
  if (owners == Owners::groups || (owners == Owners::automatic && imbalance() > kBalanced)) {
    const std::vector<GroupPlace> places = pack_groups(tasks_, world_size_, owners == Owners::groups ? 2 : 1, kBalanced);
    std::ranges::fill(load_, 0.0);
    for (std::size_t t = 0; t < tasks_.size(); ++t) {
      owner_[t] = places[t].first;
      group_size_[t] = places[t].size;
      for (int r = 0; r < group_size_[t]; ++r) load_[core::at(owner_[t] + r)] += tasks_[t].cost / group_size_[t];
    }
  }
  const bool any_shared = std::ranges::any_of(group_size_, [](int size) { return size > 1; });
  any_shared ? cut_waves_of_groups(wave_elements) : cut_waves(wave_elements);
  for (std::vector<int>& wave : waves_) std::sort(wave.begin(), wave.end());
  find_turns();
}

namespace {

// Last parameters first, as their gradients complete in the backward pass.
std::vector<int> order_of_gradients(const std::vector<MatrixTask>& tasks) {
  std::vector<int> order(tasks.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const int x = tasks[core::at(a)].parameter, y = tasks[core::at(b)].parameter;
    return x != y ? x > y : a < b;
  });
  return order;
}

}  // namespace

void OwnerPlan::cut_waves(std::int64_t wave_elements) {
  const std::vector<int> order = order_of_gradients(tasks_);
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
}

// A shared matrix is in the same wave for all that share it: each, in the order of gradients, in the first wave that no
// owner of it is past and that has room for it on all of them.
void OwnerPlan::cut_waves_of_groups(std::int64_t wave_elements) {
  struct Open {  // of a rank: the last wave that it has a matrix in
    std::size_t wave = 0;
    std::int64_t held = 0;
  };
  std::vector<Open> open(core::at(world_size_));
  for (const int t : order_of_gradients(tasks_)) {
    const auto mine = std::span(open).subspan(core::at(owner(t)), core::at(group_size(t)));
    std::size_t wave = std::ranges::max(mine, {}, &Open::wave).wave;
    const bool full = std::ranges::any_of(
        mine, [&](const Open& of) { return of.wave == wave && of.held > 0 && of.held + share_elements(t) > wave_elements; });
    wave += full;
    for (Open& of : mine) of = {wave, share_elements(t) + (of.wave == wave ? of.held : 0)};
    waves_.resize(std::max(waves_.size(), wave + 1));
    waves_[wave].push_back(t);
  }
}

void OwnerPlan::find_turns() {
  turns_.resize(waves_.size());
  for (std::size_t w = 0; w < waves_.size(); ++w) {
    std::map<int, std::size_t> next;  // by rank: its first free turn
    for (const int t : waves_[w]) {
      if (!is_shared(t)) continue;
      std::size_t turn = 0;
      for (int r = owner(t); r < owner(t) + group_size(t); ++r) turn = std::max(turn, next[r]);
      if (turn == turns_[w].size()) turns_[w].emplace_back();
      turns_[w][turn].push_back(t);
      for (int r = owner(t); r < owner(t) + group_size(t); ++r) next[r] = turn + 1;
    }
  }
}

// Each matrix has a row, or a column, more than its equal part at most.
std::int64_t OwnerPlan::share_elements(int task) const {
  const MatrixTask& t = tasks_[core::at(task)];
  if (!is_shared(task)) return t.elements;
  std::int64_t elements = 0;
  for (const Rectangle& m : t.matrices)
    elements += (std::max(m.rows, m.cols) + group_size(task) - 1) / group_size(task) * std::min(m.rows, m.cols);
  return elements;
}

std::vector<Rectangle> OwnerPlan::share(int task, int rank) const {
  std::vector<Rectangle> parts;
  for (const Rectangle& m : tasks_[core::at(task)].matrices) parts.push_back(m.part(group_size(task), rank - owner(task)));
  return parts;
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
      const std::string who = is_shared(t) ? fmt::format("ranks {} to {}", owner(t), owner(t) + group_size(t) - 1)
                                           : fmt::format("rank {}", owner(t));
      text += fmt::format("\n{} (parameter {}, {} elements): {}, wave {}", task.name, task.parameter, task.elements, who, w);
    }
  return text;
}

}  // namespace muonp::dist
