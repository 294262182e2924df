// Processes that share a GPU, of the stand-in or of this machine, and talk through its pinned memory and MPI.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dist/staged/staged.h"
#include "ranks.h"
#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/nccl/through_device.h"
#include "tests/dist/zero/pipeline_checks.h"

namespace muonp::test {
namespace {

class StagedProcesses : public testing::Test {
 protected:
  const std::vector<std::uint32_t> on_cpu_ = bits_of_rough_sums(ranks());
  const std::unique_ptr<core::Device> device_ = core::make_cuda_device(0, fmt::format("rank {}", ranks().rank()));
  const std::unique_ptr<dist::Communicator> staged_ = dist::make_staged(*device_, ranks());
};

TEST_F(StagedProcesses, EveryOperationIsMpisBitForBit) {
  ThroughDevice communicator(*staged_, *device_);
  check_everything(communicator);
  EXPECT_EQ(bits_of_rough_sums(communicator), on_cpu_);
}

TEST_F(StagedProcesses, ReducesAndExchangesExactly) {
  for (const bool overlap : {false, true}) {
    check_reduction(*device_, *staged_, {2, 2, overlap, 700});
    check_exchange(*device_, *staged_, {1, 1, overlap, 700}, 50);
  }
}

}  // namespace
}  // namespace muonp::test
