#include "launch/train/loss_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

GuardSection settings(const std::string& spike) { return {.spike = spike, .factor = 4, .window = 5, .max_skipped = 3}; }

// Median 4, absolute deviations 2, 1, 0, 1, 2: spread 1.4826, so a spike is above 4 + 4 · 1.4826 = 9.9304.
LossGuard filled(const std::string& spike) { return {settings(spike), {.losses = {6, 5, 4, 3, 2}}}; }

TEST(LossGuard, ASpikeIsFactorSpreadsAboveTheMedian) {
  EXPECT_FALSE(filled("skip").is_spike(9.93));
  EXPECT_TRUE(filled("skip").is_spike(9.931));
  EXPECT_FALSE(filled("skip").is_spike(-100));
}

TEST(LossGuard, OneSpikeInTheWindowMovesTheLimitLittle) {
  const LossGuard guard(settings("warn"), {.losses = {6, 1e9, 4, 3, 2}});  // median 4, deviations 2, 1e9, 0, 1, 2
  EXPECT_FALSE(guard.is_spike(4 + 4 * 1.4826 * 2));
  EXPECT_TRUE(guard.is_spike(4 + 4 * 1.4827 * 2));
}

TEST(LossGuard, APlateauHasASpreadOfOnePercent) {
  const LossGuard guard(settings("skip"), {.losses = {2, 2, 2, 2, 2}});
  EXPECT_FALSE(guard.is_spike(2.079));
  EXPECT_TRUE(guard.is_spike(2.081));
}

TEST(LossGuard, UntilTheWindowIsFullOnlyALossThatIsNotFiniteIsASpike) {
  LossGuard guard(settings("skip"), {});
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(guard.is_spike(1e9)) << i;
    EXPECT_TRUE(guard.is_spike(std::nan(""))) << i;
    EXPECT_TRUE(guard.is_spike(std::numeric_limits<double>::infinity())) << i;
    guard.record(1, false);
  }
  EXPECT_TRUE(guard.is_spike(1e9));
}

TEST(LossGuard, ThePolicySaysWhatIsRefused) {
  for (const auto& [policy, spike, refused] :
       {std::tuple{"off", false, false}, {"warn", true, false}, {"skip", true, true}, {"stop", true, true}}) {
    EXPECT_EQ(filled(policy).is_spike(100), spike) << policy;
    EXPECT_EQ(filled(policy).refuses(100), refused) << policy;
    EXPECT_FALSE(filled(policy).refuses(5)) << policy;
  }
}

TEST(LossGuard, SkippedStepsStayOutOfTheWindowAndAreCounted) {
  LossGuard guard = filled("skip");
  guard.record(100, true);
  EXPECT_THAT(guard.history().losses, testing::ElementsAre(6, 5, 4, 3, 2));
  EXPECT_EQ(guard.history().skipped, 1);
  guard.record(1, false);
  EXPECT_THAT(guard.history().losses, testing::ElementsAre(5, 4, 3, 2, 1));
  EXPECT_EQ(guard.history().skipped_in_a_row, 0);
  EXPECT_EQ(guard.history().skipped, 1);
}

TEST(LossGuard, SkippingForEverEndsTheRun) {
  LossGuard guard = filled("skip");
  for (int i = 0; i < 2; ++i) guard.record(100, true);
  guard.record(3, false);  // begins anew
  for (int i = 0; i < 2; ++i) guard.record(100, true);
  guard.require_moves(100);
  guard.record(100, true);
  EXPECT_THROW(guard.require_moves(100), core::Error);
}

TEST(LossGuard, DecidesAfterResumingAsWithoutInterruption) {
  LossGuard whole(settings("skip"), {});
  for (int i = 0; i < 40; ++i) {
    LossGuard resumed(settings("skip"), whole.history());
    const double loss = i % 7 == 6 ? 50.0 + i : 10.0 - 0.1 * i + 0.3 * std::sin(i);
    ASSERT_EQ(resumed.refuses(loss), whole.refuses(loss)) << i;
    ASSERT_EQ(whole.refuses(loss), i % 7 == 6) << i;
    whole.record(loss, whole.refuses(loss));
  }
}

TEST(LossGuard, AShorterWindowTakesTheNewestLosses) {
  const LossGuard guard(settings("skip"), {.losses = {9, 9, 6, 5, 4, 3, 2}});
  EXPECT_THAT(guard.history().losses, testing::ElementsAre(6, 5, 4, 3, 2));
}

}  // namespace
}  // namespace muonp::launch
