#include "optim/plan/schedule.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

using namespace muonp;
using namespace muonp::optim;

TEST(Schedule, WarmUpStartsAboveZeroAndEndsAtOne) {
  for (const std::string_view kind : kScheduleKinds) {
    const ScheduleConfig s{.kind = std::string(kind), .warmup = 4};
    EXPECT_EQ(lr_factor(s, 0, 100), 0.25) << kind;
    EXPECT_EQ(lr_factor(s, 2, 100), 0.75) << kind;
    EXPECT_EQ(lr_factor(s, 3, 100), 1) << kind;
    EXPECT_EQ(lr_factor(s, 4, 100), 1) << kind;
  }
}

TEST(Schedule, ConstantStaysAtOne) {
  const ScheduleConfig s{.kind = "constant", .final_fraction = 0};
  for (const std::int64_t step : {0, 1, 50, 99}) EXPECT_EQ(lr_factor(s, step, 100), 1);
}

TEST(Schedule, LinearFallsToOneStepAboveTheFinalFraction) {
  const ScheduleConfig s{.kind = "linear", .warmup = 2, .final_fraction = 0};
  EXPECT_EQ(lr_factor(s, 2, 10), 1);
  EXPECT_EQ(lr_factor(s, 6, 10), 0.5);
  EXPECT_EQ(lr_factor(s, 9, 10), 0.125);  // the last step moves, the one after it would not
  EXPECT_DOUBLE_EQ(lr_factor({.kind = "linear", .final_fraction = 0.5}, 5, 10), 0.75);
}

TEST(Schedule, CosineIsHalfWayInTheMiddle) {
  const ScheduleConfig s{.kind = "cosine", .warmup = 10, .final_fraction = 0.2};
  EXPECT_EQ(lr_factor(s, 10, 50), 1);
  EXPECT_NEAR(lr_factor(s, 30, 50), 0.6, 1e-15);
  EXPECT_NEAR(lr_factor(s, 20, 50), 0.2 + 0.8 * (1 + std::sqrt(0.5)) / 2, 1e-15);
  EXPECT_GT(lr_factor(s, 49, 50), 0.2);
  EXPECT_LT(lr_factor(s, 49, 50), 0.2 + 0.8 * 0.002);
}

TEST(Schedule, WsdFallsOverItsLastShareOnly) {
  const ScheduleConfig s{.kind = "wsd", .warmup = 1, .decay_fraction = 0.25, .final_fraction = 0};
  EXPECT_EQ(lr_factor(s, 11, 16), 1);
  EXPECT_EQ(lr_factor(s, 12, 16), 1);
  EXPECT_EQ(lr_factor(s, 13, 16), 0.75);
  EXPECT_EQ(lr_factor(s, 15, 16), 0.25);
  EXPECT_EQ(lr_factor({.kind = "wsd", .decay_fraction = 0}, 15, 16), 1);
}

TEST(Schedule, NeverRisesAfterTheWarmUpNorReachesZero) {
  for (const std::string_view kind : kScheduleKinds) {
    const ScheduleConfig s{.kind = std::string(kind), .warmup = 5, .final_fraction = 0};
    for (std::int64_t step = 5; step < 40; ++step) {
      EXPECT_LE(lr_factor(s, step, 40), lr_factor(s, step - 1, 40)) << kind << step;
      EXPECT_GT(lr_factor(s, step, 40), 0) << kind << step;
    }
  }
}

TEST(Schedule, WarmUpLongerThanTheRunIsRefused) {
  const ScheduleConfig s{.warmup = 100};
  EXPECT_NO_THROW(s.validate(100));
  EXPECT_NO_THROW((ScheduleConfig{.warmup = 90}).validate(0));  // a run that only saves what it starts from
  try {
    s.validate(99);
    FAIL();
  } catch (const core::Error& e) {
    EXPECT_STREQ(e.what(), "schedule.warmup is 100 steps, longer than the run of 99; valid: 0 to 99");
  }
  EXPECT_THROW((ScheduleConfig{.kind = "wsd", .warmup = 90, .decay_fraction = 0.2}).validate(100), core::Error);
  EXPECT_NO_THROW((ScheduleConfig{.kind = "wsd", .warmup = 80, .decay_fraction = 0.2}).validate(100));
}

TEST(Schedule, AStepOutsideTheRunIsADefect) {
  EXPECT_THROW(lr_factor({}, 10, 10), core::InternalError);
  EXPECT_THROW(lr_factor({}, -1, 10), core::InternalError);
}
