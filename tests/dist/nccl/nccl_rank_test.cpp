// NCCL between processes, each with a GPU of its own: of the stand-in, or of this machine (tests/run.sh --gpu).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "dist/nccl/nccl.h"
#include "ranks.h"
#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/expect_error.h"
#include "tests/dist/nccl/through_device.h"
#include "tests/dist/zero/pipeline_checks.h"
#ifdef MUONP_CUDA_HOST
#include "cuda_host.h"
#include "cuda_host_nccl.h"
#endif

namespace muonp::test {
namespace {

using Body = std::function<void(dist::Communicator&, core::Device&)>;

void run_once(const Body& body) {
  const auto device = core::make_cuda_device(session().local_rank(), fmt::format("rank {}", ranks().rank()));
  const auto nccl = dist::make_nccl(*device, ranks(), kRankTimeout);
  body(*nccl, *device);
}

#ifdef MUONP_CUDA_HOST
void run_on_gpu(const Body& body) {
  for (const auto mode : {cuda_host::Mode::kInline, cuda_host::Mode::kAsync}) {
    cuda_host::Settings settings;
    settings.mode = mode;
    settings.devices = ranks().size();
    cuda_host::configure(settings);
    run_once(body);
  }
}
#else
void run_on_gpu(const Body& body) { run_once(body); }
#endif

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

TEST(NcclProcesses, LongMessages) {
  run_once([](dist::Communicator& nccl, core::Device& device) {
    ThroughDevice communicator(nccl, device);
    check_long_messages(communicator);
  });
}

TEST(NcclProcesses, ManyOperationsInARow) {  // nothing is left over, and the host never waits
  run_once([](dist::Communicator& nccl, core::Device& device) {
    const core::Tensor data = core::Tensor::zeros(device, {8}, core::Dtype::float32, core::Category::other);
    for (int i = 0; i < 300; ++i) nccl.all_reduce(dist::Span(data), dist::Reduce::sum);
    ThroughDevice communicator(nccl, device);
    check_all_reduce(communicator);
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

#ifdef MUONP_CUDA_HOST
// Also run on two pretended machines, with three ranks and one: there rank 3 has GPU 0, and only three are visible.
TEST(NcclProcesses, Pitfall34_TheGpuIsTheLaunchersLocalRank) {
  auto settings = cuda_host::Settings::from_environment();
  const auto nodes = ranks().all_gather_bytes(std::to_string(settings.node));
  const auto on_this = [&](auto last) { return std::count(nodes.begin(), last, std::to_string(settings.node)); };
  EXPECT_EQ(session().local_rank(), on_this(nodes.begin() + ranks().rank()));
  EXPECT_EQ(session().local_size(), on_this(nodes.end()));
  settings.devices = static_cast<int>(on_this(nodes.end()));
  cuda_host::configure(settings);
  const auto device = core::make_cuda_device(session().local_rank(), fmt::format("rank {}", ranks().rank()));
  const auto nccl = dist::make_nccl(*device, ranks(), kRankTimeout);
  ThroughDevice communicator(*nccl, *device);
  check_all_reduce(communicator);
  const auto identities = ranks().all_gather_bytes(device->identity());
  EXPECT_EQ(std::set<std::string>(identities.begin(), identities.end()).size(), identities.size());
}

// As MPI sessions are, in a loop: nothing is left, and the last one goes before the runtime does.
TEST(NcclProcesses, Pitfall35_ConstructAndDestroyInALoop) {
  cuda_host::Settings settings;
  settings.devices = ranks().size();
  cuda_host::configure(settings);
  for (int i = 0; i < 10; ++i) {
    const auto device = core::make_cuda_device(session().local_rank(), "a rank");
    const auto nccl = dist::make_nccl(*device, ranks(), kRankTimeout);
    const auto data = core::Tensor::zeros(*device, {8}, core::Dtype::float32, core::Category::other);
    nccl->all_reduce(dist::Span(data), dist::Reduce::sum);  // pending when the communicator goes
  }
  EXPECT_EQ(cuda_host::live_communicators(), 0u);
  EXPECT_EQ(cuda_host::live_allocations(), 0u);
}
#endif

}  // namespace
}  // namespace muonp::test
