#include "dist/plan/wave_layout.h"

#include <gtest/gtest.h>

namespace muonp::test {
namespace {

using dist::MatrixTask;
using dist::OwnerPlan;
using dist::Owners;
using dist::ParameterSpec;
using dist::ShardPlan;
using dist::WaveLayout;

struct Plans {
  ShardPlan shards;
  OwnerPlan owners;

  Plans(const std::vector<core::Shape>& shapes, int ranks, Owners how = Owners::whole)
      : shards(specs_of(shapes), ranks, std::int64_t{1} << 30),
        owners(tasks_of(shapes), ranks, std::int64_t{1} << 40, how) {}

 private:
  static std::vector<ParameterSpec> specs_of(const std::vector<core::Shape>& shapes) {
    std::vector<ParameterSpec> specs;
    for (const core::Shape& shape : shapes) specs.push_back({fmt::format("m{}", specs.size()), shape});
    return specs;
  }
  static std::vector<MatrixTask> tasks_of(const std::vector<core::Shape>& shapes) {
    std::vector<MatrixTask> tasks;
    for (const core::Shape& shape : shapes) {
      const std::int64_t n = core::element_count(shape);
      tasks.push_back({fmt::format("m{}", tasks.size()), core::to_int(tasks.size()), static_cast<double>(n), n});
    }
    return tasks;
  }
};

// Of a GPT's blocks: q, k and v, which are parts of 768 rows, lie behind the projections of that shape, with no gap.
TEST(WaveLayout, ShapesLieTogetherWithoutGaps) {
  const std::vector<core::Shape> block = {{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}};
  std::vector<core::Shape> shapes = block;
  shapes.insert(shapes.end(), block.begin(), block.end());
  const Plans plans(shapes, 1);
  const WaveLayout layout = layout_of(plans.shards, plans.owners, 0, 0);
  std::int64_t at = 0;
  for (const int task : {1, 5, 0, 4, 2, 6, 3, 7}) {
    EXPECT_EQ(layout.begins.at(task), at) << task;
    at += core::element_count(shapes[core::at(task)]);
  }
  EXPECT_EQ(layout.elements, at);
}

// Whatever its size, a matrix begins where 16-byte accesses can, and none overlaps another.
TEST(WaveLayout, EveryMatrixBeginsAligned) {
  const std::vector<core::Shape> shapes = {{3, 5}, {7, 9}, {5, 3}, {64, 1}, {1, 1}, {2, 3, 5}, {8, 8}};
  const Plans plans(shapes, 1);
  const WaveLayout layout = layout_of(plans.shards, plans.owners, 0, 0);
  std::vector<bool> taken(core::at(layout.elements));
  ASSERT_EQ(layout.begins.size(), shapes.size());
  for (const auto& [task, begin] : layout.begins) {
    EXPECT_EQ(begin % 64, 0) << task;
    for (std::int64_t i = begin; i < begin + core::element_count(shapes[core::at(task)]); ++i) {
      ASSERT_FALSE(taken.at(core::at(i))) << task;
      taken[core::at(i)] = true;
    }
  }
}

TEST(WaveLayout, HasWhatTheRankOwnsWhole) {
  const std::vector<core::Shape> shapes(9, core::Shape{32, 16});
  const Plans plans(shapes, 3);
  std::vector<int> seen(shapes.size());
  for (int rank = 0; rank < 3; ++rank)
    for (int wave = 0; wave < plans.owners.waves(); ++wave)
      for (const auto& [task, begin] : layout_of(plans.shards, plans.owners, rank, wave).begins) {
        EXPECT_EQ(plans.owners.owner(task), rank);
        ++seen[core::at(task)];
      }
  EXPECT_EQ(seen, std::vector<int>(shapes.size(), 1));
}

}  // namespace
}  // namespace muonp::test
