// NCCL between GPUs of the stand-in: right results in both of its modes, on 1 to 4 ranks.
#include "dist/nccl.h"

#include <atomic>
#include <thread>
#include <tuple>

#include "communicator_checks.h"
#include "core/host_view.h"
#include "dist/async.h"
#include "dist/decorators.h"
#include "expect_error.h"
#include "gpu_ranks.h"

namespace muonp::test {
namespace {

using core::Category;
using core::Dtype;
using core::Tensor;
using cuda_host::Mode;
using dist::AsyncQueue;
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
};
INSTANTIATE_TEST_SUITE_P(Stands, NcclRanks,
                         testing::Combine(testing::Values(Mode::kInline, Mode::kAsync),
                                          testing::Values(1, 2, 3, 4)),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param) == Mode::kInline ? "Inline"
                                                                                           : "Async") +
                                  std::to_string(std::get<1>(instance.param));
                         });

TEST_P(NcclRanks, Pitfall28_ReduceScatterIsExact) { check(check_reduce_scatter); }
TEST_P(NcclRanks, AllGatherIsExact) { check(check_all_gather); }
TEST_P(NcclRanks, AllReduceIsExact) { check(check_all_reduce); }
TEST_P(NcclRanks, BroadcastIsExact) { check(check_broadcast); }
TEST_P(NcclRanks, ExchangeWithOthersAndItselfIsExact) { check(check_exchange); }
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

Tensor constant(core::Device& device, std::int64_t count, float value) {
  const std::vector<float> values(static_cast<std::size_t>(count), value);
  Tensor t = Tensor::empty(device, {count}, Dtype::float32, Category::other);
  device.queue().write(t.raw(), values.data(), t.bytes());
  return t;
}

std::vector<float> read(core::Device& device, const Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.size()));
  device.queue().read(values.data(), t.raw(), t.bytes());
  return values;
}

// Copies on the queue, operations on their own stream, buffers written again at once: without one of the
// events that order them, some seed gives a wrong sum.
void pipeline(Communicator& nccl, core::Device& device, AsyncQueue* async) {
  constexpr std::int64_t kCount = 512;
  const int buffers = 3, steps = 6;
  std::vector<Tensor> sources, data, results;
  for (int s = 0; s < steps; ++s) {
    sources.push_back(constant(device, kCount, static_cast<float>((s + 1) * (nccl.rank() + 1))));
    results.push_back(Tensor::zeros(device, {kCount}, Dtype::float32, Category::other));
  }
  for (int b = 0; b < buffers; ++b) data.push_back(constant(device, kCount, -1));
  std::vector<AsyncQueue::Ticket> tickets(steps);
  const auto take = [&](int s) {
    if (async != nullptr) async->wait(tickets[static_cast<std::size_t>(s)]);
    results[static_cast<std::size_t>(s)].copy_from(device.queue(),
                                                   data[static_cast<std::size_t>(s % buffers)]);
  };
  for (int s = 0; s < steps; ++s) {
    const Tensor& buffer = data[static_cast<std::size_t>(s % buffers)];
    if (s >= buffers && async != nullptr) take(s - buffers);
    buffer.copy_from(device.queue(), sources[static_cast<std::size_t>(s)]);
    const auto work = [&nccl, span = Span(buffer)] { nccl.all_reduce(span, Reduce::sum); };
    if (async == nullptr) {
      work();
      take(s);
    } else {
      tickets[static_cast<std::size_t>(s)] = async->submit(work);
    }
  }
  for (int s = steps - buffers; s < steps && async != nullptr; ++s) take(s);
  const float ranks = static_cast<float>(nccl.size() * (nccl.size() + 1) / 2);
  for (int s = 0; s < steps; ++s)
    ASSERT_EQ(read(device, results[static_cast<std::size_t>(s)]),
              std::vector<float>(kCount, static_cast<float>(s + 1) * ranks))
        << "step " << s;
}

class NcclStreams : public GpuRanks {};

TEST_F(NcclStreams, Pitfall32_EventsOrderQueueAndOperationsForEverySeed) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    start(Mode::kAsync, seed);
    run_on_gpus(2, [](Communicator& nccl, core::Device& device) { pipeline(nccl, device, nullptr); });
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

TEST_F(NcclStreams, Pitfall32_OverlappedOperationsAreOrderedByTheirMarksForEverySeed) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    start(Mode::kAsync, seed);
    run_on_gpus(2 + static_cast<int>(seed % 2), [](Communicator& nccl, core::Device& device) {
      dist::Recording recording(nccl);  // decorators pass the overlap on
      AsyncQueue async(recording);
      pipeline(recording, device, &async);
    });
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// Rank 1 joins only when rank 0 has seen the end of what it gave its queue after submit().
TEST_F(NcclStreams, TheQueueGoesOnBesideOverlappedOperations) {
  start(Mode::kAsync, 3);
  std::atomic<bool> queue_went_on = false;
  run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
    const Tensor reduced = constant(device, 64, 1), other = constant(device, 64, 5);
    AsyncQueue async(nccl);
    while (nccl.rank() == 1 && !queue_went_on) std::this_thread::yield();
    const auto ticket = async.submit([&] { nccl.all_reduce(Span(reduced), Reduce::sum); });
    other.zero(device.queue());
    device.queue().synchronize();
    queue_went_on = true;
    async.wait(ticket);
    EXPECT_EQ(read(device, reduced), std::vector<float>(64, 2.0f));
    EXPECT_EQ(read(device, other), std::vector<float>(64, 0.0f));
    EXPECT_EQ(async.busy_seconds(), 0);
    EXPECT_EQ(async.waited_seconds(), 0);
  });
}

// Without an overlap the queue stands behind the operation, and the host does not.
TEST_F(NcclStreams, TheHostDoesNotWaitForOperations) {
  start(Mode::kAsync, 3);
  std::atomic<bool> returned = false;
  run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
    const Tensor data = constant(device, 64, 1);
    while (nccl.rank() == 1 && !returned) std::this_thread::yield();
    nccl.all_reduce(Span(data), Reduce::sum);
    returned = true;
    EXPECT_EQ(read(device, data), std::vector<float>(64, 2.0f));
  });
}

TEST_F(NcclStreams, Pitfall35_ConstructAndDestroyInALoop) {
  for (int i = 0; i < 20; ++i) {
    run_on_gpus(1 + i % 4, [](Communicator& nccl, core::Device& device) {
      const Tensor data = constant(device, 8, 1);
      nccl.all_reduce(Span(data), Reduce::sum);  // pending when the communicator goes
    });
  }
}

TEST_F(NcclStreams, Pitfall34_ACpuHasNoNccl) {
  dist::run_ranks(1, [](Communicator& host) {
    const auto device = core::make_cpu_device(1);
    expect_error<core::InternalError>([&] { dist::make_nccl(*device, host, 1); },
                                      testing::HasSubstr("joins GPUs"));
  });
}

}  // namespace
}  // namespace muonp::test
