#include "dist/comm/operation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "dist/comm/reduction.h"
#include "tests/dist/comm/communicator_checks.h"

namespace muonp::test {
namespace {

using core::Dtype;
using dist::Operation;
using dist::OperationKind;

TEST(Operation, CutsTileTheWholeEvenly) {
  for (std::int64_t count : {0LL, 1LL, 6LL, 7LL, 100LL, (1LL << 40) + 3})
    for (int parts : {1, 2, 3, 7}) {
      std::int64_t next = 0;
      for (int p = 0; p < parts; ++p) {
        const dist::Cut c = dist::cut(count, parts, p);
        EXPECT_EQ(c.begin, next);
        EXPECT_LE(std::abs(c.count - count / parts), 1);
        next += c.count;
      }
      EXPECT_EQ(next, count);
    }
}

TEST(Operation, BytesPastTwoToTheThirtyOne) {
  const std::int64_t count = std::int64_t{6} << 30;  // elements
  EXPECT_EQ(dist::bytes_sent({.kind = OperationKind::reduce_scatter, .count = count}, 1, 3), (std::int64_t{4} << 30) * 4);
  EXPECT_EQ(dist::Span(nullptr, count, Dtype::bfloat16).bytes(), std::int64_t{12} << 30);
}

TEST(Operation, UnevenBytesAddUp) {
  // Everything that ranks send in an all_reduce: each of 10,000 elements goes from 2 others to its owner and
  // back.
  std::int64_t total = 0;
  for (int r = 0; r < 3; ++r) total += dist::bytes_sent({.kind = OperationKind::all_reduce, .count = 10'000}, r, 3);
  EXPECT_EQ(total, 10'000 * 2 * 2 * 4);
  total = 0;  // broadcast: each other rank gets every element once
  for (int r = 0; r < 3; ++r) total += dist::bytes_sent({.kind = OperationKind::broadcast, .count = 10, .root = 2}, r, 3);
  EXPECT_EQ(total, 10 * 2 * 4);
}

// Its copies come to every rank; the last that is short has 1024 elements.
TEST(Operation, AShortAllReduceIsAnAllGather) {
  const auto sent = [](std::int64_t count) {
    return dist::bytes_sent({.kind = OperationKind::all_reduce, .count = count}, 1, 5);
  };
  EXPECT_EQ(sent(10), 4 * 10 * 4);
  EXPECT_EQ(sent(1024), 4 * 1024 * 4);
  EXPECT_EQ(sent(1025), (2 * 4 * 1025 / 5) * 4);
}

TEST(Operation, EncodingKeepsEverything) {
  float x[4];
  const std::vector<dist::Transfer> sends = {{1, {x, 3, Dtype::bfloat16}}, {0, {x, 0, Dtype::int32}}};
  const std::vector<dist::Transfer> receives = {{2, {x, 4, Dtype::float32}}};
  const Operation o{.kind = OperationKind::exchange,
                    .count = 9,
                    .dtype = Dtype::float16,
                    .root = 3,
                    .reduce = dist::Reduce::min,
                    .sends = sends,
                    .receives = receives};
  std::vector<dist::Transfer> storage;
  const Operation d = dist::decode(dist::encode(o), storage);
  EXPECT_EQ(d.kind, o.kind);
  EXPECT_EQ(d.count, 9);
  EXPECT_EQ(d.dtype, Dtype::float16);
  EXPECT_EQ(d.root, 3);
  EXPECT_EQ(d.reduce, dist::Reduce::min);
  ASSERT_EQ(d.sends.size(), 2u);
  EXPECT_EQ(d.sends[0].peer, 1);
  EXPECT_EQ(d.sends[0].span.count, 3);
  EXPECT_EQ(d.sends[0].span.dtype, Dtype::bfloat16);
  ASSERT_EQ(d.receives.size(), 1u);
  EXPECT_EQ(d.receives[0].span.count, 4);
  EXPECT_THROW(dist::decode("short", storage), core::InternalError);
}

TEST(Reduction, KeepsTheOrderOfTheSourcesAtEveryOffset) {
  // The same elements reduced whole and one by one: the vectoriser must not associate differently.
  constexpr int kSources = 5;
  constexpr std::int64_t kCount = 2500;
  std::vector<std::vector<float>> data;
  std::vector<const void*> sources;
  for (int r = 0; r < kSources; ++r) {
    data.emplace_back();
    for (std::int64_t i = 0; i < kCount; ++i) data.back().push_back(rough(r, i));
    sources.push_back(data.back().data());
  }
  std::vector<float> whole_result(kCount);
  dist::reduce_in_order(sources, whole_result.data(), kCount, Dtype::float32, dist::Reduce::sum);
  for (std::size_t i = 0; i < kCount; ++i) {
    volatile float expected = data[0][i];
    for (std::size_t r = 1; r < kSources; ++r) expected = expected + data[r][i];
    ASSERT_EQ(whole_result[i], expected) << i;
  }
}

TEST(Reduction, IntegersWrap) {
  const std::int32_t a = 2'147'483'647, b = 1;
  std::int32_t result = 0;
  const void* sources[] = {&a, &b};
  dist::reduce_in_order(sources, &result, 1, Dtype::int32, dist::Reduce::sum);
  EXPECT_EQ(result, -2'147'483'647 - 1);
}

}  // namespace
}  // namespace muonp::test
