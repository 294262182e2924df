// Ranks as threads that share one GPU of the stand-in and talk through its pinned memory.
#include "dist/staged/staged.h"

#include <atomic>
#include <thread>

#include "dist/comm/async.h"
#include "dist/comm/decorators.h"
#include "tests/dist/comm/communicator_checks.h"
#include "tests/dist/device_numbers.h"
#include "tests/dist/expect_error.h"
#include "tests/dist/nccl/gpu_ranks.h"
#include "tests/dist/zero/pipeline_checks.h"

namespace muonp::test {
namespace {

using core::Tensor;
using cuda_host::Mode;
using dist::AsyncQueue;
using dist::Communicator;
using dist::Reduce;
using dist::Span;
using testing::HasSubstr;

class Staged : public GpuRanks {
 protected:
  void SetUp() override { start_one(Mode::kInline, 1); }
  static void start_one(Mode mode, std::uint64_t seed) {
    cuda_host::Settings settings;
    settings.mode = mode;
    settings.seed = seed;
    settings.devices = 1;
    cuda_host::configure(settings);
  }
  static void run_on_one_gpu(int ranks, const Body& body) {
    dist::run_ranks(ranks, [&](Communicator& host) {
      const auto device = core::make_cuda_device(0, fmt::format("rank {}", host.rank()));
      const auto staged = dist::make_staged(*device, host);
      body(*staged, *device);
    });
  }
};

TEST_F(Staged, EveryOperationIsTheHostsBitForBit) {
  for (const Mode mode : {Mode::kInline, Mode::kAsync})
    for (const int ranks : {1, 2, 3, 4}) {
      start_one(mode, static_cast<std::uint64_t>(ranks));
      dist::run_ranks(ranks, [&](Communicator& host) {
        const std::vector<std::uint32_t> on_cpu = bits_of_rough_sums(host);
        const auto device = core::make_cuda_device(0, fmt::format("rank {}", host.rank()));
        const auto staged = dist::make_staged(*device, host);
        ThroughDevice communicator(*staged, *device);
        check_everything(communicator);
        EXPECT_EQ(bits_of_rough_sums(communicator), on_cpu);
      });
    }
}

// Gradients, matrices through their owners in waves, weights: in every interleaving of streams and threads.
TEST_F(Staged, ReducesAndExchangesExactlyUnderDelays) {
  std::uint64_t seed = 0;
  for (const int ranks : {1, 2, 3, 4})
    for (const Case& s : cases()) {
      start_one(Mode::kAsync, ++seed);
      ASSERT_NO_THROW(run_on_one_gpu(ranks,
                                     [&](Communicator& staged, core::Device& device) {
                                       check_reduction(device, staged, s);
                                       check_exchange(device, staged, s, 50);
                                     }))
          << "ranks " << ranks << " stage " << s.stage << " passes " << s.passes << " bucket " << s.bucket;
      ASSERT_FALSE(HasFailure()) << "seed " << seed;
    }
}

// Rank 1 joins only when rank 0 has seen the end of what it gave its queue after submit().
TEST_F(Staged, HostAndQueueGoOnBesideOverlappedOperations) {
  start_one(Mode::kAsync, 3);
  std::atomic<bool> queue_went_on = false;
  run_on_one_gpu(2, [&](Communicator& staged, core::Device& device) {
    const Tensor reduced = constant(device, 64, 1), other = constant(device, 64, 5);
    AsyncQueue async(staged);
    while (staged.rank() == 1 && !queue_went_on) std::this_thread::yield();
    const auto ticket = async.submit([&] { staged.all_reduce(Span(reduced), Reduce::sum); });
    other.zero(device.queue());
    device.queue().synchronize();
    queue_went_on = true;
    async.wait(ticket);
    EXPECT_EQ(read(device, reduced), std::vector<float>(64, 2.0f));
    EXPECT_EQ(read(device, other), std::vector<float>(64, 0.0f));
  });
}

// What is asked for in the meantime comes after what is under way, on all ranks.
TEST_F(Staged, OperationsOfTheHostKeepTheirPlaceBehindOverlappedOnes) {
  start_one(Mode::kAsync, 4);
  run_on_one_gpu(3, [&](Communicator& staged, core::Device& device) {
    const Tensor data = constant(device, 1000, static_cast<float>(staged.rank()));
    AsyncQueue async(staged);
    std::vector<AsyncQueue::Ticket> tickets;
    for (int i = 0; i < 5; ++i) {
      tickets.push_back(async.submit([&] { staged.all_reduce(Span(data), Reduce::max); }));
      double value = staged.rank();
      staged.all_reduce(std::span<double>(&value, 1), Reduce::sum);
      EXPECT_EQ(value, 3);
      EXPECT_EQ(staged.all_gather_bytes(std::to_string(staged.rank())), (std::vector<std::string>{"0", "1", "2"}));
    }
    for (const auto ticket : tickets) async.wait(ticket);
    EXPECT_EQ(read(device, data), std::vector<float>(1000, 2.0f));
  });
}

TEST_F(Staged, AFailureOfTheHostsIsDeliveredWithItsMessage) {
  for (const bool overlap : {false, true})
    dist::run_ranks(1, [&](Communicator& host) {
      dist::Faulty faulty(host, 1, dist::Fault::error);
      const auto device = core::make_cuda_device(0, "rank 0");
      const auto staged = dist::make_staged(*device, faulty);
      const Tensor data = constant(*device, 8, 1);
      staged->all_gather(Span(data));
      const auto message = HasSubstr("injected fault at operation 1: all_reduce(sum) of 8 float32");
      if (overlap) {
        staged->begin_overlap();
        staged->all_reduce(Span(data), Reduce::sum);  // the host does not wait, and hears of it later
        const dist::Mark mark = staged->end_overlap();
        expect_error<core::Error>([&] { staged->wait_for(mark); }, message);
      } else {
        expect_error<core::Error>([&] { staged->all_reduce(Span(data), Reduce::sum); }, message);
      }
      expect_error<core::Error>([&] { staged->barrier(); }, message);  // and of nothing else from then on
    });
}

TEST_F(Staged, RanksThatDoNotFitAreNamed) {
  expect_error<core::Error>(
      [] {
        run_on_one_gpu(2, [](Communicator& staged, core::Device& device) {
          const Tensor data = constant(device, 8 + 8 * staged.rank(), 1);
          staged.all_reduce(Span(data), Reduce::sum);
        });
      },
      HasSubstr("all_reduce"));
}

TEST_F(Staged, StagesAsMuchPinnedMemoryAsTheLargestOperationTakes) {
  run_on_one_gpu(2, [](Communicator& staged, core::Device& device) {
    const auto pinned = [&] { return device.host_allocator()->use().live_total; };
    EXPECT_EQ(pinned(), 0);
    const Tensor large = constant(device, 1000, 1), small = constant(device, 10, 1);
    staged.all_reduce(Span(large), Reduce::sum);
    staged.all_reduce(Span(small), Reduce::sum);
    EXPECT_EQ(pinned(), 4000);
  });
}

}  // namespace
}  // namespace muonp::test
