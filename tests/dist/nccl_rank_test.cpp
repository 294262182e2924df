// NCCL between processes, each with a GPU of the stand-in. Data cross processes here, as they do on a real
// machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "communicator_checks.h"
#include "cuda_host.h"
#include "expect_error.h"
#include "gpu_ranks.h"
#include "pipeline_checks.h"
#include "ranks.h"

namespace muonp::test {
namespace {

void run_on_gpu(const std::function<void(dist::Communicator&, core::Device&)>& body) {
  for (const auto mode : {cuda_host::Mode::kInline, cuda_host::Mode::kAsync}) {
    cuda_host::Settings settings;
    settings.mode = mode;
    settings.devices = ranks().size();
    cuda_host::configure(settings);
    const auto device =
        core::make_cuda_device(session().local_rank(), fmt::format("rank {}", ranks().rank()));
    const auto nccl = dist::make_nccl(*device, ranks(), kRankTimeout);
    body(*nccl, *device);
  }
}

TEST(NcclProcesses, EveryOperationIsExact) {
  run_on_gpu([](dist::Communicator& nccl, core::Device& device) {
    ThroughDevice communicator(nccl, device);
    check_reduce_scatter(communicator);
    check_all_gather(communicator);
    check_all_reduce(communicator);
    check_broadcast(communicator);
    check_exchange(communicator);
    check_all_reduce_values(communicator);
  });
}

TEST(NcclProcesses, ReducesAndExchangesExactly) {
  run_on_gpu([](dist::Communicator& nccl, core::Device& device) {
    for (const bool overlap : {false, true}) {
      check_reduction(device, nccl, {2, 2, overlap, 700});
      check_exchange(device, nccl, {1, 1, overlap, 700}, 100000);
    }
  });
}

TEST(NcclProcesses, Pitfall34_TwoRanksOnOneGpuAreNamed) {
  if (ranks().size() == 1) return;  // nobody to share with
  const auto device = core::make_cuda_device(0, "a rank");
  expect_error<core::Error>([&] { dist::make_nccl(*device, ranks(), kRankTimeout); },
                            testing::HasSubstr("ranks 0 and 1 share the GPU"));
}

}  // namespace
}  // namespace muonp::test
