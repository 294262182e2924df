#include "dist/mpi/bruck.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>
#include <vector>

#include "core/base/error.h"

namespace muonp::test {
namespace {

using dist::bruck_rounds;
using dist::BruckRound;

std::size_t rounds_of(int size) { return static_cast<std::size_t>(std::bit_width(static_cast<unsigned>(size - 1))); }

// What every rank holds, by rank from its own on: each round is run on all of them, each out of what it held before.
void gather_on_all(int size) {
  std::vector<std::vector<BruckRound>> rounds;
  std::vector<std::vector<int>> held;
  for (int r = 0; r < size; ++r) {
    rounds.push_back(bruck_rounds(size, r));
    held.push_back({r});
    ASSERT_EQ(rounds.back().size(), rounds_of(size)) << "rank " << r << " of " << size;
  }
  for (std::size_t k = 0; k < rounds_of(size); ++k) {
    const std::vector<std::vector<int>> before = held;
    for (int r = 0; r < size; ++r) {
      const auto me = static_cast<std::size_t>(r);
      const BruckRound& mine = rounds[me][k];
      const BruckRound& other = rounds[static_cast<std::size_t>(mine.from)][k];
      const std::vector<int>& from = before[static_cast<std::size_t>(mine.from)];
      ASSERT_EQ(other.to, r);
      ASSERT_EQ(other.count, mine.count);
      ASSERT_LE(static_cast<std::size_t>(mine.count), from.size()) << "more than is there";
      ASSERT_EQ(static_cast<std::size_t>(mine.held), before[me].size());
      held[me].insert(held[me].end(), from.begin(), from.begin() + mine.count);
    }
  }
  for (int r = 0; r < size; ++r)
    for (int i = 0; i < size; ++i)
      ASSERT_EQ(held[static_cast<std::size_t>(r)].at(static_cast<std::size_t>(i)), (r + i) % size)
          << "block " << i << " of rank " << r << " of " << size;
}

TEST(Bruck, EveryBlockReachesEveryRankOnce) {
  for (int size = 1; size <= 70; ++size) {
    gather_on_all(size);
    if (HasFatalFailure()) return;
  }
}

// The same of single ranks: what comes in are the blocks that are missing, in order, from a rank that has them.
TEST(Bruck, TenThousandRanksTakeFourteenMessages) {
  constexpr int kSize = 10'000;
  for (int rank : {0, 1, 17, 4095, 4096, 5000, 8191, 8192, 9999}) {
    const std::vector<BruckRound> rounds = bruck_rounds(kSize, rank);
    ASSERT_EQ(rounds.size(), 14u);
    std::set<int> to, from;
    int held = 1;
    for (std::size_t k = 0; k < rounds.size(); ++k) {
      const BruckRound& r = rounds[k];
      const BruckRound other = bruck_rounds(kSize, r.from)[k];
      EXPECT_EQ(r.held, held);
      EXPECT_LE(r.count, held);
      EXPECT_EQ(r.from, (rank + held) % kSize) << "whose block 0 is the next one here";
      EXPECT_EQ(other.to, rank);
      EXPECT_EQ(other.count, r.count);
      EXPECT_TRUE(to.insert(r.to).second && from.insert(r.from).second);
      held += r.count;
    }
    EXPECT_EQ(held, kSize);
  }
}

TEST(Bruck, ARankThatIsNotThereIsADefect) {
  EXPECT_THROW(bruck_rounds(3, 3), core::InternalError);
  EXPECT_THROW(bruck_rounds(0, 0), core::InternalError);
}

}  // namespace
}  // namespace muonp::test
