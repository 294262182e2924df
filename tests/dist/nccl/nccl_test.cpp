// NCCL between GPUs of the stand-in: right results in both of its modes, on 1 to 4 ranks. Every tensor is a
// block of cudaMalloc of its own.
#include "dist/nccl/nccl.h"

#include <tuple>

#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/nccl/gpu_ranks.h"

namespace muonp::test {
namespace {

using core::Dtype;
using cuda_host::Mode;
using dist::Communicator;
using dist::Reduce;
using dist::Span;

class NcclRanks : public GpuRanks, public testing::WithParamInterface<std::tuple<Mode, int>> {
 protected:
  void SetUp() override { start(std::get<0>(GetParam()), 7); }
  static void check(void (*what)(Communicator&)) {
    run_on_gpus(std::get<1>(GetParam()), [what](Communicator& nccl, core::Device& device) {
      ThroughDevice communicator(nccl, device);
      what(communicator);
    });
  }

 private:
  NoMemoryCache exact_blocks_;  // with guard bands right at the ends of every tensor
};
INSTANTIATE_TEST_SUITE_P(Stands, NcclRanks,
                         testing::Combine(testing::Values(Mode::kInline, Mode::kAsync), testing::Values(1, 2, 3, 4)),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param) == Mode::kInline ? "Inline" : "Async") +
                                  std::to_string(std::get<1>(instance.param));
                         });

TEST_P(NcclRanks, Pitfall28_ReduceScatterIsExact) { check(check_reduce_scatter); }
TEST_P(NcclRanks, Pitfall28_AllGatherIsExact) { check(check_all_gather); }
TEST_P(NcclRanks, Pitfall28_AllReduceIsExact) { check(check_all_reduce); }
TEST_P(NcclRanks, Pitfall28_BroadcastIsExact) { check(check_broadcast); }
TEST_P(NcclRanks, Pitfall28_ExchangeWithOthersAndItselfIsExact) { check(check_exchange); }
TEST_P(NcclRanks, LongMessages) { check(check_long_messages); }
TEST_P(NcclRanks, HostOperationsGoToTheHostsCommunicator) {
  check([](Communicator& communicator) {
    check_all_reduce_values(communicator);
    check_all_gather_bytes(communicator);
    communicator.barrier();
    EXPECT_THAT(communicator.description(), testing::HasSubstr("NCCL 2.28.9 between GPUs"));
  });
}

// The adapter must not hide a check that fails.
TEST_P(NcclRanks, TheChecksSeeAWrongResult) {
  run_on_gpus(2, [](Communicator& nccl, core::Device& device) {
    ThroughDevice communicator(nccl, device);
    float value[1] = {1};
    communicator.all_reduce(Span(value, 1, Dtype::float32), Reduce::sum);
    EXPECT_EQ(value[0], 2.0f);
  });
}

}  // namespace
}  // namespace muonp::test
