#include "launch/train/peak.h"

#include <gtest/gtest.h>

#include "launch/train/learner.h"
#include "tests/support/test_device.h"

namespace muonp::launch {
namespace {

TEST(Peak, IsMeasuredAgainWhenAStepExceedsItAndNoShareExceedsOne) {
  int measured = 0;
  Peak peak([&] { return ++measured, 20.0; }, 10.0);
  EXPECT_DOUBLE_EQ(peak.share(5), 0.5);
  EXPECT_EQ(measured, 0);
  EXPECT_DOUBLE_EQ(peak.share(15), 0.75);  // of the 20 that are measured now
  EXPECT_EQ(measured, 1);
  EXPECT_DOUBLE_EQ(peak.share(30), 1);  // more than is measured even now: the step itself is the most that was seen
  EXPECT_DOUBLE_EQ(peak.rate(), 30);
  EXPECT_DOUBLE_EQ(peak.share(15), 0.5);
  EXPECT_EQ(measured, 2);
}

TEST(Peak, OfTheDeviceIsARate) {
  const double rate = measure_peak(*test::make_test_device(1), core::Dtype::float32);
  EXPECT_GT(rate, 1e6);
  EXPECT_LT(rate, 1e16);
}

}  // namespace
}  // namespace muonp::launch
