#include "dist/plan/gather_plan.h"

#include <gmock/gmock.h>

#include <deque>

#include "core/autograd/autograd.h"

namespace muonp::test {
namespace {

using core::Parameter;
using dist::GatherPlan;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A tied table, three layers of one matrix, a norm of two vectors: 16 elements each, so 16 elements a bucket.
struct Model {
  std::deque<Parameter> storage;
  core::ParameterList list;
  core::WeightReads reads;

  Model() {
    for (const char* name : {"table", "layers.0.w", "layers.1.w", "layers.2.w", "gain", "bias"}) {
      Parameter& p = storage.emplace_back();
      p.name = name;
      p.shape = {16};
      list.push_back(&p);
    }
    reads.operation({list[0]}, {});
    for (std::size_t layer : {1, 2, 3}) reads.operation({list[layer]}, {list[layer]});
    reads.operation({list[4], list[5]}, {list[4]});
    reads.operation({list[0]}, {list[0]});
  }
  dist::ShardPlan shards() const {
    std::vector<dist::ParameterSpec> specs;
    for (const Parameter* p : list) specs.push_back({p->name, p->shape});
    return {specs, 1, 1 << 20, true};
  }
  GatherPlan plan(int prefetch) const {
    return {shards(), core::positions_of(reads.forward, list), core::positions_of(reads.backward, list), prefetch};
  }
};

// Buckets: bias 0, gain 1, layers 2, 1, 0 are 2, 3, 4, the table is 5.
std::vector<std::vector<int>> gathers(const GatherPlan::Pass& pass) {
  std::vector<std::vector<int>> all;
  for (const GatherPlan::Stop& stop : pass.stops) all.push_back(stop.gather);
  return all;
}

using L = std::vector<int>;

TEST(GatherPlan, WithoutPrefetchABucketIsWholeWhileItIsRead) {
  const GatherPlan plan = Model().plan(0);
  EXPECT_THAT(gathers(plan.training()), ElementsAre(L{5}, L{4}, L{3}, L{2}, L{1, 0}, L{5}, L{1}, L{2}, L{3}, L{4}));
  EXPECT_EQ(plan.training().gathered, 11 * 16);
  EXPECT_EQ(plan.training().most_held, 2 * 16);
  EXPECT_EQ(plan.forward().gathered, 7 * 16);
  EXPECT_THAT(plan.training().stops.front().release, IsEmpty());
  EXPECT_THAT(plan.training().stops[1].release, ElementsAre(5));
}

TEST(GatherPlan, PrefetchGathersAheadAndKeepsWhatTheTurnNeeds) {
  const GatherPlan plan = Model().plan(1);
  // At the table's second use the norm, which the backward pass reads next, stays.
  EXPECT_THAT(gathers(plan.training()), ElementsAre(L{5, 4}, L{3}, L{2}, L{1}, L{0, 5}, L{}, L{2}, L{3}, L{4}, L{}));
  EXPECT_THAT(plan.training().stops[5].release, ElementsAre(0));
  EXPECT_EQ(plan.training().gathered, 10 * 16);
  EXPECT_EQ(plan.training().most_held, 3 * 16);
  EXPECT_EQ(plan.forward().gathered, 7 * 16);  // a forward pass alone gathers nothing for a backward pass
}

TEST(GatherPlan, AllBucketsAheadAreGatheredOnce) {
  const GatherPlan plan = Model().plan(100);
  EXPECT_EQ(plan.training().gathered, 6 * 16);
  EXPECT_EQ(plan.training().most_held, 6 * 16);
}

TEST(GatherPlan, Pitfall24_ItsTextTellsTheOrder) {
  EXPECT_NE(Model().plan(0).describe(), Model().plan(1).describe());
  EXPECT_EQ(Model().plan(1).describe(), Model().plan(1).describe());
}

TEST(GatherPlan, AParameterThatIsNotInTheListIsNamed) {
  Model model;
  Parameter other;
  other.name = "other";
  model.reads.operation({&other}, {});
  EXPECT_THROW(model.plan(0), core::InternalError);
}

}  // namespace
}  // namespace muonp::test
