#include "core/data/sample_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "core/base/error.h"

using namespace muonp::core;

namespace {

using Windows = std::vector<std::int64_t>;

Windows epoch_of(std::int64_t size, std::uint64_t seed, std::uint64_t epoch) {
  Windows order(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) order[static_cast<std::size_t>(i)] = permuted(i, size, seed, epoch);
  return order;
}

Windows sorted(Windows w) {
  std::sort(w.begin(), w.end());
  return w;
}

Windows counting(std::int64_t size) {
  Windows w(static_cast<std::size_t>(size));
  std::iota(w.begin(), w.end(), 0);
  return w;
}

// The windows of steps [first, last), taken by `ranks` ranks that share each batch out as evenly as it goes.
Windows trained_on(const SampleOrder& order, std::int64_t first, std::int64_t last, std::int64_t ranks) {
  Windows all;
  for (std::int64_t step = first; step < last; ++step)
    for (std::int64_t rank = 0; rank < ranks; ++rank)
      for (std::int64_t i = order.batch() * rank / ranks; i < order.batch() * (rank + 1) / ranks; ++i)
        all.push_back(order.window(step, i));
  return all;
}

}  // namespace

TEST(SampleOrder, EveryEpochIsAPermutation) {
  for (std::int64_t size = 1; size <= 300; ++size)
    EXPECT_EQ(sorted(epoch_of(size, 7, static_cast<std::uint64_t>(size % 5))), counting(size)) << size;
  EXPECT_EQ(sorted(epoch_of(100'003, 1, 0)), counting(100'003));
}

TEST(SampleOrder, EpochsAndSeedsDiffer) {
  const Windows a = epoch_of(1000, 1, 0);
  EXPECT_NE(a, epoch_of(1000, 1, 1));
  EXPECT_NE(a, epoch_of(1000, 2, 0));
  EXPECT_NE(a, counting(1000));
  EXPECT_EQ(a, epoch_of(1000, 1, 0));
}

// In a random permutation the mean of position·value is (n-1)²/4 with deviation n²/(12·√n), and neighbours
// are neighbours again 2 times in expectation.
TEST(SampleOrder, LooksShuffled) {
  constexpr std::int64_t n = 4096;
  for (std::uint64_t epoch = 0; epoch < 5; ++epoch) {
    const Windows order = epoch_of(n, 3, epoch);
    double mean = 0;
    int neighbours = 0;
    for (std::int64_t i = 0; i < n; ++i) mean += static_cast<double>(i * order[static_cast<std::size_t>(i)]) / n;
    for (std::size_t i = 1; i < order.size(); ++i) neighbours += std::abs(order[i] - order[i - 1]) == 1 ? 1 : 0;
    const double expected = (n - 1.0) * (n - 1.0) / 4, deviation = n * static_cast<double>(n) / 12 / std::sqrt(n);
    EXPECT_NEAR(mean, expected, 5 * deviation);
    EXPECT_LT(neighbours, 2 + 5 * std::sqrt(2.0) + 1);
  }
}

// Over many keys each window comes first equally often: chi-squared with 4 degrees of freedom.
TEST(SampleOrder, SmallSizesAreUniform) {
  constexpr int kDraws = 10'000;
  std::vector<int> first(5);
  for (std::uint64_t epoch = 0; epoch < kDraws; ++epoch) ++first[static_cast<std::size_t>(permuted(0, 5, 11, epoch))];
  double chi = 0;
  for (const int count : first) chi += std::pow(count - kDraws / 5.0, 2) / (kDraws / 5.0);
  EXPECT_LT(chi, 23.5);  // exceeded once in 10,000
}

TEST(SampleOrder, HugeSizesStayInRange) {
  const std::int64_t size = (std::int64_t{1} << 40) + 12345;
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const std::int64_t w = permuted(size - 1 - i * 1'000'003, size, 1, 0);
    EXPECT_TRUE(w >= 0 && w < size);
    seen.insert(w);
  }
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(SampleOrder, EachWindowOncePerEpochAcrossSteps) {
  const SampleOrder order(10, 4, 5, true);  // epochs end within steps
  const Windows all = trained_on(order, 0, 15, 1);
  for (std::int64_t epoch = 0; epoch < 6; ++epoch)
    EXPECT_EQ(sorted(Windows(all.begin() + epoch * 10, all.begin() + epoch * 10 + 10)), counting(10));
  EXPECT_EQ(order.epoch(2), 0);
  EXPECT_EQ(order.epoch(3), 1);
  EXPECT_EQ(order.epoch(5), 2);
  EXPECT_EQ(order.epoch(6), 2);
}

TEST(SampleOrder, EachEpochHasAnOrderOfItsOwn) {
  const SampleOrder order(50, 10, 5, true);
  EXPECT_NE(trained_on(order, 0, 5, 1), trained_on(order, 5, 10, 1));
  EXPECT_NE(trained_on(order, 0, 5, 1), trained_on(SampleOrder(50, 10, 6, true), 0, 5, 1));
}

TEST(SampleOrder, UnshuffledIsTheDatasOrder) {
  const SampleOrder order(6, 4, 5, false);
  EXPECT_EQ(trained_on(order, 0, 3, 1), (Windows{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5}));
}

TEST(SampleOrder, BatchesLargerThanTheDataWrap) {
  const SampleOrder order(3, 8, 5, true);
  const Windows all = trained_on(order, 0, 3, 2);
  for (std::int64_t epoch = 0; epoch < 8; ++epoch)
    EXPECT_EQ(sorted(Windows(all.begin() + epoch * 3, all.begin() + epoch * 3 + 3)), counting(3));
}

TEST(SampleOrder, Pitfall38_ResumeAtAnotherWorldSizeSeesTheSameWindows) {
  const SampleOrder whole(101, 12, 9, true);
  const Windows expected = trained_on(whole, 0, 40, 1);
  for (const std::int64_t before : {1, 2, 4, 5})
    for (const std::int64_t after : {1, 2, 3, 7}) {
      Windows seen = trained_on(SampleOrder(101, 12, 9, true), 0, 17, before);
      const Windows rest = trained_on(SampleOrder(101, 12, 9, true), 17, 40, after);  // a new process: only the step
      seen.insert(seen.end(), rest.begin(), rest.end());
      EXPECT_EQ(seen, expected) << before << " ranks, then " << after;
    }
}

TEST(SampleOrder, ImpossibleArgumentsAreRefused) {
  EXPECT_THROW(SampleOrder(0, 1, 1, true), InternalError);
  EXPECT_THROW(SampleOrder(1, 0, 1, true), InternalError);
  EXPECT_THROW(SampleOrder(3, 2, 1, true).window(0, 2), InternalError);
  EXPECT_THROW(permuted(3, 3, 1, 0), InternalError);
}
