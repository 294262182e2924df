// Phases as the stand-in for NVTX sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/device/trace.h"
#include "cuda_host.h"

namespace muonp::core {
namespace {

TEST(Trace, PhasesAreRangesOfNvtxWithAndWithoutATrace) {
  const Phase outer("outer");
  {
    const Phase inner("inner");
    EXPECT_THAT(cuda_host::open_ranges(), testing::ElementsAre("outer", "inner"));
  }
  EXPECT_THAT(cuda_host::open_ranges(), testing::ElementsAre("outer"));
  Phase ended("ended");
  ended.end();
  ended.end();
  EXPECT_THAT(cuda_host::open_ranges(), testing::ElementsAre("outer"));
}

}  // namespace
}  // namespace muonp::core
