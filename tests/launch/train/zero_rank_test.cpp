// The same training by ranks that are processes, over MPI, with a GPU each over NCCL.
#include <gtest/gtest.h>

#include "dist/nccl/nccl.h"
#include "ranks.h"
#include "tests/launch/train/zero_training.h"
#include "tests/support/test_device.h"

namespace muonp::test {
namespace {

std::vector<double> train_as_process(const ZeroRun& run) {
  if (!on_gpu()) {
    const TestDevice cpu = make_cpu_test_device(1);
    return train_zero(ranks(), *cpu, run);
  }
  const TestDevice gpu = remember(core::make_cuda_device(session().local_rank(), fmt::format("rank {}", ranks().rank())));
  const auto nccl = dist::make_nccl(*gpu, ranks(), kRankTimeout);
  return train_zero(*nccl, *gpu, run);
}

TEST(ZeroRanks, Pitfall02_Pitfall26_Pitfall27_LossesAndBytesAreThoseOfOneRank) {
  for (int zero : {0, 1, 2, 3})
    for (const bool overlap : {false, true}) {
      SCOPED_TRACE(fmt::format("stage {}, overlap {}", zero, overlap));
      expect_equal_losses(train_as_process({.zero = zero,
                                            .passes = 1 + (zero + overlap) % 2,
                                            .prefetch = 2 * overlap,
                                            .overlap = overlap,
                                            .recompute = overlap}),
                          ranks().size());
    }
}

}  // namespace
}  // namespace muonp::test
