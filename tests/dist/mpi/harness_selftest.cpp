// Tests that fail on purpose: CMakeLists.txt checks that the harness says so.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "ranks.h"

namespace muonp::test {
namespace {

TEST(Selftest, FailsOnRankOneOnly) { EXPECT_NE(ranks().rank(), 1) << "seen by one rank"; }
TEST(Selftest, ThrowsOnRankOneOnly) {
  if (ranks().rank() == 1) core::fail("thrown by one rank");
}
TEST(Selftest, Passes) { ranks().barrier(); }

}  // namespace
}  // namespace muonp::test
