#include "dist/plan/shard_plan.h"

#include <gtest/gtest.h>

#include <numeric>

namespace muonp::test {
namespace {

using dist::Interval;
using dist::ParameterSpec;
using dist::ShardPlan;

// Odd shapes, a scalar, an empty and a one-row parameter; in order of use.
std::vector<ParameterSpec> odd_parameters() {
  return {{"embedding", {251, 7}},   {"blocks.0.qkv", {39, 13}}, {"blocks.0.bias", {39}}, {"blocks.0.empty", {0, 13}},
          {"blocks.0.row", {1, 13}}, {"blocks.1.up", {53, 13}},  {"scale", {}},           {"head", {251, 13}}};
}

class ShardPlans : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ShardPlans, testing::Values(1, 2, 3, 4, 5, 7, 64));

TEST_P(ShardPlans, Pitfall21_PiecesTileEveryParameterOnce) {
  for (std::int64_t bucket_elements : {1, 100, 1000, 100'000}) {
    const ShardPlan plan(odd_parameters(), GetParam(), bucket_elements);
    for (int p = 0; p < static_cast<int>(plan.parameters().size()); ++p) {
      const std::int64_t size = core::element_count(plan.parameters()[static_cast<std::size_t>(p)].shape);
      EXPECT_EQ(plan.in_bucket(p).count(), size);
      std::int64_t next = 0;
      for (int r = 0; r < GetParam(); ++r) {
        const Interval piece = plan.piece(p, r), ranks = plan.ranks_of(p);
        EXPECT_EQ(!piece.empty(), ranks.begin <= r && r < ranks.end) << "parameter " << p << ", rank " << r;
        if (piece.empty()) continue;
        EXPECT_EQ(piece.begin, next) << "parameter " << p << ", rank " << r;
        next = piece.end;
        const Interval slice = plan.slice(plan.bucket_of(p), r);
        EXPECT_GE(plan.in_bucket(p).begin + piece.begin, slice.begin);
        EXPECT_LE(plan.in_bucket(p).begin + piece.end, slice.end);
      }
      EXPECT_EQ(next, size) << "parameter " << p;
    }
  }
}

TEST_P(ShardPlans, BucketsHoldEachParameterOnceInReverseOrder) {
  const ShardPlan plan(odd_parameters(), GetParam(), 1000);
  std::vector<int> order;
  for (std::size_t b = 0; b < plan.buckets().size(); ++b) {
    std::int64_t at = 0;
    for (int p : plan.buckets()[b].parameters) {
      order.push_back(p);
      EXPECT_EQ(plan.bucket_of(p), static_cast<int>(b));
      EXPECT_EQ(plan.in_bucket(p).begin, at);
      at = plan.in_bucket(p).end;
    }
    EXPECT_EQ(plan.buckets()[b].used, at);
    EXPECT_TRUE(at <= 1000 || plan.buckets()[b].parameters.size() == 1);
  }
  std::vector<int> expected(plan.parameters().size());
  std::iota(expected.rbegin(), expected.rend(), 0);
  EXPECT_EQ(order, expected);
}

TEST_P(ShardPlans, Pitfall05_PaddingIsAtTheEndAndInNoPiece) {
  const int n = GetParam();
  const ShardPlan plan(odd_parameters(), n, 1000);
  std::int64_t padded = 0;
  for (std::size_t b = 0; b < plan.buckets().size(); ++b) {
    const dist::Bucket& bucket = plan.buckets()[b];
    padded += bucket.size;
    EXPECT_EQ(bucket.size % (n * 16), 0);
    EXPECT_LT(bucket.size - bucket.used, n * 16);
    for (int r = 0; r < n; ++r) {
      const Interval slice = plan.slice(static_cast<int>(b), r);
      EXPECT_EQ(slice.count(), bucket.size / n);
      EXPECT_EQ(slice.begin % 16, 0);
    }
    for (int p : bucket.parameters) EXPECT_LE(plan.in_bucket(p).end, bucket.used);
  }
  EXPECT_EQ(plan.padded_elements(), padded);
}

TEST(ShardPlan, CutAtLayersABucketHoldsOneLayer) {
  const ShardPlan plan(odd_parameters(), 2, 100'000, true);
  ASSERT_EQ(plan.buckets().size(), 5u);  // head, scale, blocks.1, blocks.0, embedding
  EXPECT_EQ(plan.buckets()[3].parameters, (std::vector<int>{4, 3, 2, 1}));
  for (const dist::Bucket& bucket : plan.buckets())
    for (int p : bucket.parameters)
      EXPECT_EQ(dist::layer_of(plan.parameters()[static_cast<std::size_t>(p)].name),
                dist::layer_of(plan.parameters()[static_cast<std::size_t>(bucket.parameters[0])].name));
  // A layer larger than a bucket has several.
  EXPECT_GT(ShardPlan(odd_parameters(), 2, 100, true).buckets().size(), 5u);
  EXPECT_EQ(dist::layer_of("blocks.12.mlp.up.weight"), "blocks.12");
  EXPECT_EQ(dist::layer_of("final_norm.weight"), "final_norm.weight");
}

TEST(ShardPlan, Pitfall03_AMatrixStraddlesRanksAndBucketsStayWhole) {
  const ShardPlan plan(odd_parameters(), 4, 1000);
  const int qkv = 1, embedding = 0;
  int ranks = 0;
  for (int r = 0; r < 4; ++r) ranks += !plan.piece(qkv, r).empty();
  EXPECT_GE(ranks, 2);
  EXPECT_NE(plan.piece(qkv, 3).begin % 13, 0);  // cut in the middle of a row
  // Larger than a bucket: one of its own, never cut over two.
  EXPECT_EQ(plan.buckets()[static_cast<std::size_t>(plan.bucket_of(embedding))].parameters, std::vector<int>{embedding});
}

TEST(ShardPlan, Pitfall08_TinyAndEmptyParameters) {
  const ShardPlan tiny({{"row", {1, 3}}, {"none", {0, 5}}, {"one", {1, 1}}}, 7, 100);
  EXPECT_EQ(tiny.buckets().size(), 1u);
  EXPECT_EQ(tiny.buckets()[0].used, 4);
  EXPECT_EQ(tiny.buckets()[0].size, 7 * 16);
  EXPECT_EQ(tiny.piece(0, 0), (Interval{1 - 1, 3}));
  for (int r = 0; r < 7; ++r) EXPECT_TRUE(tiny.piece(1, r).empty());
  for (int r = 1; r < 7; ++r) EXPECT_TRUE(tiny.piece(0, r).empty());

  const ShardPlan empty({{"none", {0, 5}}}, 3, 100);
  EXPECT_EQ(empty.padded_elements(), 0);
  EXPECT_TRUE(empty.slice(0, 2).empty());
  EXPECT_TRUE(ShardPlan({}, 2, 100).buckets().empty());

  const ShardPlan matrix({{"w", {5, 5}}}, 7, 100);  // one matrix on 7 ranks: two of them hold it
  EXPECT_EQ(matrix.piece(0, 0), (Interval{0, 16}));
  EXPECT_EQ(matrix.piece(0, 1), (Interval{16, 25}));
  EXPECT_TRUE(matrix.piece(0, 2).empty());
}

TEST(ShardPlan, Pitfall24_HashAndDescriptionChangeWithEveryArgument) {
  const ShardPlan plan(odd_parameters(), 4, 1000);
  EXPECT_EQ(plan.hash(), ShardPlan(odd_parameters(), 4, 1000).hash());
  auto renamed = odd_parameters(), reshaped = odd_parameters();
  renamed[3].name = "other";
  reshaped[1].shape = {13, 39};  // as many elements
  for (const ShardPlan& other :
       {ShardPlan(odd_parameters(), 3, 1000), ShardPlan(odd_parameters(), 4, 700),
        ShardPlan(odd_parameters(), 4, 1000, true), ShardPlan(renamed, 4, 1000), ShardPlan(reshaped, 4, 1000)}) {
    EXPECT_NE(plan.hash(), other.hash());
    EXPECT_NE(plan.describe(), other.describe());
  }
}

TEST(ShardPlan, Pitfall14_SizesPastTwoToTheThirtyOne) {
  const std::int64_t width = 70'000;
  const ShardPlan plan({{"a", {width, width}}, {"b", {width, width}}}, 3, std::int64_t{1} << 40);
  EXPECT_EQ(plan.buckets()[0].used, 2 * width * width);
  std::int64_t covered = 0;
  for (int r = 0; r < 3; ++r) covered += plan.piece(0, r).count();
  EXPECT_EQ(covered, width * width);
}

}  // namespace
}  // namespace muonp::test
