// The same training by ranks that are processes, over MPI.
#include <gtest/gtest.h>

#include "ranks.h"
#include "tests/support/test_device.h"
#include "zero_training.h"

namespace muonp::test {
namespace {

TEST(ZeroRanks, Pitfall02_Pitfall26_Pitfall27_LossesAndBytesAreThoseOfOneRank) {
  for (const ZeroRun& run : {ZeroRun{.zero = 2, .passes = 2, .overlap = true}, ZeroRun{.zero = 3, .prefetch = 0},
                             ZeroRun{.zero = 3, .passes = 2, .prefetch = 2, .overlap = true, .recompute = true}}) {
    SCOPED_TRACE(fmt::format("stage {}, overlap {}, prefetch {}", run.zero, run.overlap, run.prefetch));
    const TestDevice device = make_cpu_test_device(1);
    expect_equal_losses(train_zero(ranks(), *device, run), ranks().size());
  }
}

}  // namespace
}  // namespace muonp::test
