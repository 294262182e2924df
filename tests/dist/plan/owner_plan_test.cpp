#include "dist/plan/owner_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "dist/plan/shard_plan.h"

namespace muonp::test {
namespace {

using dist::kBalanced;
using dist::MatrixTask;
using dist::OwnerPlan;
using dist::Owners;
using dist::Rectangle;

constexpr std::int64_t kNoLimit = std::int64_t{1} << 40;

// The matrices of a GPT, cost = products of an n × n Gram recurrence plus the products with the long side.
std::vector<MatrixTask> gpt(int layers, std::int64_t width) {
  std::vector<MatrixTask> tasks;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    const auto n = static_cast<double>(std::min(rows, cols)), m = static_cast<double>(std::max(rows, cols));
    tasks.push_back({name, static_cast<int>(tasks.size()), 9 * n * n * n + 3 * m * n * n, rows * cols});
  };
  for (int l = 0; l < layers; ++l) {
    const std::string block = fmt::format("blocks.{}.", l);
    add(block + "qkv", 3 * width, width);
    add(block + "projection", width, width);
    add(block + "up", 4 * width, width);
    add(block + "down", width, 4 * width);
  }
  return tasks;
}

double max_load(const OwnerPlan& plan, int ranks) {
  double most = 0;
  for (int r = 0; r < ranks; ++r) most = std::max(most, plan.load(r));
  return most;
}

// No assignment can be better: the mean, or the k smallest of the (k − 1)·ranks + 1 largest costs on one
// rank.
double lower_bound(const std::vector<MatrixTask>& tasks, int ranks) {
  std::vector<double> costs;
  double sum = 0;
  for (const MatrixTask& t : tasks) {
    costs.push_back(t.cost);
    sum += t.cost;
  }
  std::sort(costs.rbegin(), costs.rend());
  double bound = sum / ranks;
  for (std::size_t k = 1; (k - 1) * static_cast<std::size_t>(ranks) < costs.size(); ++k) {
    const std::size_t last = (k - 1) * static_cast<std::size_t>(ranks);
    double least = 0;
    for (std::size_t i = 0; i < k; ++i) least += costs[last - i];
    bound = std::max(bound, least);
  }
  return bound;
}

double best_possible(const std::vector<MatrixTask>& tasks, std::vector<double>& loads, std::size_t next) {
  if (next == tasks.size()) return *std::max_element(loads.begin(), loads.end());
  double best = 1e300;
  for (double& load : loads) {
    load += tasks[next].cost;
    best = std::min(best, best_possible(tasks, loads, next + 1));
    load -= tasks[next].cost;
  }
  return best;
}

TEST(OwnerPlan, Pitfall23_WithinFourThirdsOfTheBestPossible) {
  for (std::uint64_t trial = 0; trial < 60; ++trial)
    for (int ranks : {2, 3}) {
      std::vector<MatrixTask> tasks;
      for (int t = 0; t < 8; ++t)
        tasks.push_back({fmt::format("m{}", t), t,
                         1.0 + static_cast<double>(core::random_below(5, trial, static_cast<std::uint64_t>(t), 50)), 10});
      std::vector<double> loads(static_cast<std::size_t>(ranks));
      const double best = best_possible(tasks, loads, 0);
      EXPECT_LE(max_load(OwnerPlan(tasks, ranks, kNoLimit), ranks), (4.0 / 3 - 1.0 / (3 * ranks)) * best + 1e-9);
    }
}

TEST(OwnerPlan, Pitfall23_BalancedByCostOnRealShapes) {
  for (int ranks : {1, 2, 3, 4, 5, 7, 8, 16}) {
    const auto tasks = gpt(12, 768);
    const OwnerPlan plan(tasks, ranks, kNoLimit);
    EXPECT_LE(max_load(plan, ranks), 4.0 / 3 * lower_bound(tasks, ranks)) << ranks << " ranks";
    EXPECT_GE(plan.imbalance(), 1.0);
  }
  EXPECT_LT(OwnerPlan(gpt(12, 768), 4, kNoLimit).imbalance(), 1.05);
}

// Cost is not the number of elements: the many long matrices are cheap here.
TEST(OwnerPlan, Pitfall23_ElementsDoNotCount) {
  const std::vector<MatrixTask> tasks = {{"a", 0, 10, 1}, {"b", 1, 10, 1}, {"c", 2, 1, 100}, {"d", 3, 1, 100}};
  const OwnerPlan plan(tasks, 2, kNoLimit);
  EXPECT_NE(plan.owner(0), plan.owner(1));
  EXPECT_NE(plan.owner(2), plan.owner(3));
  EXPECT_DOUBLE_EQ(plan.imbalance(), 1.0);
}

TEST(OwnerPlan, MatricesOfOneLayerSpreadWhereItIsFree) {
  std::vector<MatrixTask> tasks;
  for (int l = 0; l < 8; ++l)
    for (const char* part : {"q", "k", "v", "o"})
      tasks.push_back({fmt::format("blocks.{}.{}", l, part), static_cast<int>(tasks.size()), 1, 64});
  const OwnerPlan plan(tasks, 4, kNoLimit);
  EXPECT_DOUBLE_EQ(plan.imbalance(), 1.0);
  for (std::size_t l = 0; l < 8; ++l) {
    std::set<int> owners;
    for (std::size_t i = 0; i < 4; ++i) owners.insert(plan.owner(static_cast<int>(4 * l + i)));
    EXPECT_EQ(owners.size(), 4u) << "layer " << l;
  }
}

TEST(OwnerPlan, TiesGoToTheRankWithoutTheLayer) {
  const OwnerPlan plan({{"blocks.0.a", 0, 2, 9}, {"blocks.0.b", 1, 1, 9}, {"blocks.1.a", 2, 2, 9}, {"blocks.1.b", 3, 1, 9}},
                       2, kNoLimit);
  EXPECT_EQ(plan.owner(0), 0);
  EXPECT_EQ(plan.owner(1), 1);
  EXPECT_EQ(plan.owner(2), 1);
  EXPECT_EQ(plan.owner(3), 0);
}

// The rule as it is said, for every rank at every matrix.
std::vector<int> greedy(const std::vector<MatrixTask>& tasks, int ranks) {
  std::vector<std::size_t> order(tasks.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {},
                    [&](std::size_t t) { return std::tuple(-tasks[t].cost, -tasks[t].elements, tasks[t].name, t); });
  struct Load {
    double cost = 0;
    std::map<std::string, int> layers;
    std::int64_t elements = 0;
  };
  std::vector<Load> loads(static_cast<std::size_t>(ranks));
  std::vector<int> owners(tasks.size());
  for (const std::size_t t : order) {
    const std::string layer = dist::layer_of(tasks[t].name);
    const auto best =
        std::ranges::min_element(loads, {}, [&](Load& l) { return std::tuple(l.cost, l.layers[layer], l.elements); });
    best->cost += tasks[t].cost;
    best->elements += tasks[t].elements;
    ++best->layers[layer];
    owners[t] = static_cast<int>(best - loads.begin());
  }
  return owners;
}

TEST(OwnerPlan, ChoosesAsIfItLookedAtEveryRank) {
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    auto random = [&, i = std::uint64_t{0}](std::uint64_t below) mutable {
      return static_cast<int>(core::random_below(11, trial, i++, below));
    };
    std::vector<MatrixTask> tasks;
    const int count = random(60), ranks = 1 + random(trial % 2 ? 8 : 70);
    for (int t = 0; t < count; ++t)
      tasks.push_back({fmt::format("blocks.{}.{}", random(6), t), t, static_cast<double>(random(4)), 1 + random(3)});
    const OwnerPlan plan(tasks, ranks, kNoLimit);
    const std::vector<int> owners = greedy(tasks, ranks);
    for (int t = 0; t < count; ++t) ASSERT_EQ(plan.owner(t), owners[static_cast<std::size_t>(t)]) << "trial " << trial;
  }
}

TEST(OwnerPlan, TensOfThousandsOfMatricesOnTenThousandRanks) {
  const auto tasks = gpt(25'000, 64);
  const OwnerPlan plan(tasks, 10'000, 40'000);
  EXPECT_LT(plan.imbalance(), 1.05);
  std::size_t planned = 0;
  for (int w = 0; w < plan.waves(); ++w) planned += plan.wave(w).size();
  EXPECT_EQ(planned, tasks.size());
}

// A plan takes about as long for a million ranks as for ten: looked at rank by rank, this one would be 10¹¹ comparisons of
// layers, which take hours.
TEST(OwnerPlan, ManyMatricesOnAMillionRanks) {
  const auto tasks = gpt(25'000, 64);
  const OwnerPlan plan(tasks, 1'000'000, 40'000);
  std::set<int> owners;
  for (int t = 0; t < static_cast<int>(tasks.size()); ++t) owners.insert(plan.owner(t));
  EXPECT_EQ(owners.size(), tasks.size());  // each matrix has a rank of its own
}

// Who owns a matrix depends on names and costs, not on the order in which the matrices are listed.
TEST(OwnerPlan, Pitfall22_OwnersDoNotDependOnTheOrderOfTasks) {
  for (int ranks : {1, 2, 3, 5, 7}) {
    const auto tasks = gpt(5, 96);
    auto shuffled = tasks;
    std::rotate(shuffled.begin(), shuffled.begin() + 7, shuffled.end());
    std::reverse(shuffled.begin(), shuffled.begin() + 9);
    const OwnerPlan a(tasks, ranks, kNoLimit), b(shuffled, ranks, kNoLimit);
    EXPECT_EQ(a.hash(), OwnerPlan(tasks, ranks, kNoLimit).hash());
    for (std::size_t i = 0; i < tasks.size(); ++i)
      for (std::size_t j = 0; j < tasks.size(); ++j)
        if (tasks[i].name == shuffled[j].name) {
          EXPECT_EQ(a.owner(static_cast<int>(i)), b.owner(static_cast<int>(j))) << tasks[i].name;
        }
  }
}

TEST(OwnerPlan, Pitfall21_WavesHoldEachMatrixOnceAndKeepTheLimit) {
  for (int ranks : {1, 2, 3, 5, 7})
    for (std::int64_t limit : {std::int64_t{1}, std::int64_t{30'000}, std::int64_t{200'000}, kNoLimit}) {
      const auto tasks = gpt(5, 96);
      const OwnerPlan plan(tasks, ranks, limit);
      std::vector<int> seen(tasks.size(), 0);
      for (int w = 0; w < plan.waves(); ++w) {
        EXPECT_TRUE(std::is_sorted(plan.wave(w).begin(), plan.wave(w).end()));
        EXPECT_FALSE(plan.wave(w).empty());
        std::vector<std::int64_t> held(static_cast<std::size_t>(ranks)), matrices(held);
        for (int t : plan.wave(w)) {
          ++seen[static_cast<std::size_t>(t)];
          held[static_cast<std::size_t>(plan.owner(t))] += tasks[static_cast<std::size_t>(t)].elements;
          ++matrices[static_cast<std::size_t>(plan.owner(t))];
        }
        for (std::size_t r = 0; r < held.size(); ++r)
          EXPECT_TRUE(held[r] <= limit || matrices[r] == 1) << "wave " << w << ", rank " << r;
      }
      EXPECT_EQ(seen, std::vector<int>(tasks.size(), 1));
    }
  EXPECT_EQ(OwnerPlan(gpt(5, 96), 2, kNoLimit).waves(), 1);
}

// With many waves the owners stay in step: no wave costs far more on one rank than its share.
TEST(OwnerPlan, WavesAreOfAboutEqualCost) {
  const auto tasks = gpt(12, 768);
  const OwnerPlan plan(tasks, 4, std::int64_t{6} << 20);
  ASSERT_GE(plan.waves(), 4);
  double summed = 0, most = 0;
  for (int w = 0; w < plan.waves(); ++w) {
    std::vector<double> cost(4);
    for (int t : plan.wave(w)) cost[static_cast<std::size_t>(plan.owner(t))] += tasks[static_cast<std::size_t>(t)].cost;
    summed += *std::max_element(cost.begin(), cost.end());
  }
  for (int r = 0; r < 4; ++r) most = std::max(most, plan.load(r));
  EXPECT_LE(summed, 1.5 * most);
}

TEST(OwnerPlan, Pitfall08_FewerMatricesThanRanks) {
  const OwnerPlan one({{"w", 0, 5, 25}}, 7, 100);
  EXPECT_EQ(one.owner(0), 0);
  EXPECT_EQ(one.waves(), 1);
  EXPECT_DOUBLE_EQ(one.imbalance(), 7.0);
  const OwnerPlan none({}, 3, 100);
  EXPECT_EQ(none.waves(), 0);
  EXPECT_DOUBLE_EQ(none.imbalance(), 1.0);
  const OwnerPlan empty({{"a", 0, 0, 0}, {"b", 1, 0, 0}}, 2, 1);
  EXPECT_DOUBLE_EQ(empty.imbalance(), 1.0);
  EXPECT_EQ(empty.waves(), 1);
}

TEST(OwnerPlan, Pitfall24_HashChangesWithTheResultOnly) {
  const auto tasks = gpt(4, 96);
  const OwnerPlan plan(tasks, 4, 100'000);
  EXPECT_NE(plan.hash(), OwnerPlan(tasks, 3, 100'000).hash());
  EXPECT_NE(plan.hash(), OwnerPlan(tasks, 4, 50'000).hash());
  auto scaled = tasks;
  for (MatrixTask& t : scaled) t.cost *= 2;
  EXPECT_EQ(plan.hash(), OwnerPlan(scaled, 4, 100'000).hash());
  EXPECT_NE(plan.describe().find("blocks.3.up (parameter 14, 36864 elements): rank "), std::string::npos);
}

// Costs of a matrix whose ranks can share it, as the recurrence has them (p = 1/2): 8 products of its small side, 3 of its
// long one.
void add_shareable(std::vector<MatrixTask>& tasks, const std::string& name, std::int64_t rows, std::int64_t cols,
                   int matrices = 1) {
  const auto n = static_cast<double>(std::min(rows, cols)), m = static_cast<double>(std::max(rows, cols));
  MatrixTask task{name, static_cast<int>(tasks.size()), matrices * (8 * n * n * n + 3 * m * n * n), matrices * rows * cols};
  for (int i = 0; i < matrices; ++i) task.matrices.push_back({i * rows * cols, cols, rows, cols});
  task.most_owners = static_cast<int>(std::min(rows, cols) / 2);
  tasks.push_back(task);
}

std::vector<MatrixTask> shareable_gpt(int layers, std::int64_t width) {
  std::vector<MatrixTask> tasks;
  for (int l = 0; l < layers; ++l) {
    const std::string block = fmt::format("blocks.{}.", l);
    add_shareable(tasks, block + "qkv", width, width, 3);
    add_shareable(tasks, block + "projection", width, width);
    add_shareable(tasks, block + "up", 4 * width, width);
    add_shareable(tasks, block + "down", width, 4 * width);
  }
  return tasks;
}

std::vector<MatrixTask> llama_70b() {
  std::vector<MatrixTask> tasks;
  for (int l = 0; l < 80; ++l) {
    const std::string block = fmt::format("blocks.{}.", l);
    for (const char* name : {"q", "o"}) add_shareable(tasks, block + name, 8192, 8192);
    for (const char* name : {"k", "v"}) add_shareable(tasks, block + name, 1024, 8192);
    for (const char* name : {"gate", "up"}) add_shareable(tasks, block + name, 28672, 8192);
    add_shareable(tasks, block + "down", 8192, 28672);
  }
  return tasks;
}

constexpr std::int64_t kWave = std::int64_t{64} << 18;

TEST(OwnerGroups, NoRankHasMuchMoreThanTheMean) {
  const struct {
    std::vector<MatrixTask> tasks;
    int ranks;
    bool whole_is_balanced;
  } cases[] = {{shareable_gpt(12, 768), 8, true},
               {shareable_gpt(12, 768), 1024, false},
               {shareable_gpt(48, 1600), 64, true},
               {llama_70b(), 512, false}};
  for (const auto& c : cases) {
    const OwnerPlan whole(c.tasks, c.ranks, kWave), chosen(c.tasks, c.ranks, kWave, Owners::automatic),
        groups(c.tasks, c.ranks, kWave, Owners::groups);
    EXPECT_EQ(whole.imbalance() <= kBalanced, c.whole_is_balanced);
    EXPECT_LE(chosen.imbalance(), kBalanced) << c.ranks;
    EXPECT_LE(groups.imbalance(), kBalanced) << c.ranks;
    for (int t = 0; t < std::ssize(c.tasks); ++t) {
      EXPECT_GE(groups.group_size(t), 2);
      EXPECT_LE(chosen.group_size(t), c.tasks[std::size_t(t)].most_owners);
      EXPECT_LE(chosen.group(t).end, c.ranks);
      if (c.whole_is_balanced) {
        EXPECT_EQ(chosen.owner(t), whole.owner(t));
      }
    }
  }
}

// Each has all of its matrices, once, and in a turn one at most; no wave holds more than its limit.
TEST(OwnerGroups, PartsMakeUpTheMatricesAndTurnsDoNotMeet) {
  const std::int64_t limit = 4 * 768 * 768;
  for (int ranks : {2, 3, 6, 24}) {
    const OwnerPlan plan(shareable_gpt(6, 768), ranks, limit, Owners::groups);
    std::vector<int> seen(plan.tasks().size(), 0);
    for (int w = 0; w < plan.waves(); ++w) {
      std::vector<std::int64_t> held(std::size_t(ranks), 0);
      for (const int t : plan.wave(w))
        for (int r = plan.owner(t); r < plan.group(t).end; ++r) held[std::size_t(r)] += plan.share_elements(t);
      EXPECT_LE(*std::ranges::max_element(held), limit);
      for (const std::vector<int>& turn : plan.turns(w)) {
        std::set<int> busy;
        for (const int t : turn) {
          ++seen[std::size_t(t)];
          for (int r = plan.owner(t); r < plan.group(t).end; ++r) EXPECT_TRUE(busy.insert(r).second);
        }
      }
    }
    for (int t = 0; t < std::ssize(plan.tasks()); ++t) {
      EXPECT_EQ(seen[std::size_t(t)], plan.is_shared(t));
      std::int64_t elements = 0;
      for (int r = plan.owner(t); r < plan.group(t).end; ++r)
        for (const Rectangle& part : plan.share(t, r)) elements += part.elements();
      EXPECT_EQ(elements, plan.tasks()[std::size_t(t)].elements);
    }
  }
}

TEST(OwnerGroups, ARectangleCountsItsElementsBeforeAPosition) {
  for (const Rectangle& r : {Rectangle{7, 10, 4, 3}, Rectangle{0, 5, 3, 5}, Rectangle{12, 1, 6, 1}}) {
    std::int64_t before = 0;
    for (std::int64_t at = 0; at < 60; ++at) {
      EXPECT_EQ(r.before(at), before) << at;
      if (before < r.elements() && r.position(before) == at) ++before;
    }
    EXPECT_EQ(before, r.elements());
  }
}

}  // namespace
}  // namespace muonp::test
