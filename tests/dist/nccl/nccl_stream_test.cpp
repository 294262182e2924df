// Streams, events and the memory between them: operations of NCCL beside the device's queue, under the delays of the
// stand-in's asynchronous mode.
#include <atomic>
#include <chrono>
#include <thread>

#include "core/base/hash.h"
#include "core/device/for_each.h"
#include "cuda_host_nccl.h"
#include "dist/comm/async.h"
#include "dist/comm/decorators.h"
#include "tests/dist/device_numbers.h"
#include "tests/dist/expect_error.h"
#include "tests/dist/nccl/gpu_ranks.h"

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
    results[static_cast<std::size_t>(s)].copy_from(device.queue(), data[static_cast<std::size_t>(s % buffers)]);
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

// Work of a kernel's first thread: takes its time.
struct Compute {
  std::chrono::milliseconds time;
  MUONP_HD void operator()(std::int64_t) const { std::this_thread::sleep_for(time); }
};

struct Subtract {
  float *weights, step;
  MUONP_HD void operator()(std::int64_t i) const { weights[i] -= step; }
};

struct AddTo {
  const float* from;
  float* to;
  MUONP_HD void operator()(std::int64_t i) const { to[i] += from[i]; }
};

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

// The optimizer's kernel writes this rank's slice, the all-gather runs beside the queue, the next forward pass's kernel
// reads all slices, and the next update overwrites them: the queue must wait before each of the last two, no earlier.
void train(Communicator& nccl, core::Device& device) {
  constexpr std::int64_t kSlice = 300;
  const int steps = 6;
  const std::int64_t count = kSlice * nccl.size();
  AsyncQueue async(nccl);
  const Tensor weights = constant(device, count, 0);
  const Tensor seen = constant(device, count, 0);
  float* mine = weights.data<float>() + nccl.rank() * kSlice;
  for (int s = 0; s < steps; ++s) {
    core::for_each(device.queue(), kSlice, Subtract{mine, static_cast<float>(nccl.rank() + 1)});
    async.wait(async.submit([&] { nccl.all_gather(Span(weights)); }));
    core::for_each(device.queue(), count, AddTo{weights.data<float>(), seen.data<float>()});
  }
  const std::vector<float> values = read(device, seen);
  for (std::int64_t i = 0; i < count; ++i)
    ASSERT_EQ(values[static_cast<std::size_t>(i)], static_cast<float>(-(i / kSlice + 1) * steps * (steps + 1) / 2)) << i;
}

TEST_F(NcclStreams, Pitfall32_UpdateAllGatherAndForwardAreOrderedForEverySeed) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    start(Mode::kAsync, seed);
    run_on_gpus(2, train);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// A bucket is freed as soon as the queue has been made to wait for its reduction, and the next tensor gets its memory
// and is written. The hash of what was reduced is the same on every rank, and the right one.
void churn(Communicator& nccl, core::Device& device) {
  constexpr std::int64_t kCount = 700;
  const int steps = 8;
  AsyncQueue async(nccl);
  const Tensor source = constant(device, kCount, static_cast<float>(nccl.rank() + 1));
  const Tensor junk = constant(device, kCount, -100);
  const Tensor sums = Tensor::empty(device, {steps, kCount}, Dtype::float32, Category::other);
  const auto bucket_of = [&](const Tensor& values) {
    Tensor bucket = Tensor::empty(device, {kCount}, Dtype::float32, Category::gradients);
    bucket.copy_from(device.queue(), values);
    return bucket;
  };
  void* memory = nullptr;
  int reused = 0;
  for (int s = 0; s < steps; ++s) {
    {
      const Tensor bucket = bucket_of(source);
      const auto ticket = async.submit([&] { nccl.all_reduce(Span(bucket), Reduce::sum); });
      async.wait(ticket);
      sums[s].copy_from(device.queue(), bucket);
      memory = bucket.raw();
    }
    reused += bucket_of(junk).raw() == memory ? 1 : 0;
  }
  EXPECT_EQ(reused, steps);  // otherwise this shows nothing
  const std::vector<float> right(static_cast<std::size_t>(steps * kCount),
                                 static_cast<float>(nccl.size() * (nccl.size() + 1) / 2));
  const auto hash_of = [](const std::vector<float>& v) {
    return core::hash_bytes(v.data(), static_cast<std::int64_t>(v.size() * sizeof(float)));
  };
  ASSERT_EQ(hash_of(read(device, sums)), hash_of(right));
}

TEST_F(NcclStreams, Pitfall31_MemoryOfABucketIsReusedOnlyAfterItsReductionForEverySeed) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    start(Mode::kAsync, seed);
    run_on_gpus(2, churn);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

// A computation of thrice the time-out before each operation is no stall; neither is one behind which several wait.
TEST_F(NcclStreams, ComputationMayTakeLongerThanTheTimeOut) {
  start(Mode::kAsync, 3);
  run_on_gpus(
      2,
      [](Communicator& nccl, core::Device& device) {
        const Tensor data = constant(device, 64, 1);
        for (int i = 0; i < 2; ++i) {
          core::for_each(device.queue(), 1, Compute{std::chrono::milliseconds(1500)});
          nccl.all_reduce(Span(data), Reduce::sum);
          nccl.all_reduce(Span(data), Reduce::sum);
        }
        EXPECT_EQ(read(device, data), std::vector<float>(64, 16.0f));
      },
      0.5);
}

// Rank 1 joins only when rank 0 has seen the end of what it gave its queue after submit().
TEST_F(NcclStreams, TheQueueGoesOnBesideOverlappedOperations) {
  start(Mode::kAsync, 3);
  std::atomic<bool> queue_went_on = false;
  run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
    const Tensor reduced = constant(device, 64, 1), other = constant(device, 64, 5);
    core::Stopwatch waits(device.queue(), "communication");
    AsyncQueue async(nccl, &waits);
    while (nccl.rank() == 1 && !queue_went_on) std::this_thread::yield();
    const auto ticket = async.submit([&] { nccl.all_reduce(Span(reduced), Reduce::sum); });
    other.zero(device.queue());
    device.queue().synchronize();
    queue_went_on = true;
    async.wait(ticket);
    EXPECT_EQ(read(device, reduced), std::vector<float>(64, 2.0f));
    EXPECT_EQ(read(device, other), std::vector<float>(64, 0.0f));
    EXPECT_GE(core::seconds(waits.take()), 0);  // of the device's queue; to submit is no wait
  });
}

// Operation 1 has ended. Who waits for it does not stand still for operation 2, which rank 1 joins late.
TEST_F(NcclStreams, WaitingForWhatHasEndedIsNoWaitForWhatCameLater) {
  start(Mode::kAsync, 3);
  std::atomic<bool> queue_went_on = false;
  const auto body = [&](Communicator& nccl, core::Device& device) {
    const Tensor first = constant(device, 64, 1), second = constant(device, 64, 2);
    AsyncQueue async(nccl);
    const auto ended = async.submit([&] { nccl.all_reduce(Span(first), Reduce::sum); });
    async.wait(ended);
    device.queue().synchronize();
    while (nccl.rank() == 1 && !queue_went_on) std::this_thread::yield();
    const auto pending = async.submit([&] { nccl.all_reduce(Span(second), Reduce::sum); });
    async.wait(ended);
    device.queue().synchronize();
    queue_went_on = true;
    async.wait(pending);
    EXPECT_EQ(read(device, first), std::vector<float>(64, 2.0f));
    EXPECT_EQ(read(device, second), std::vector<float>(64, 4.0f));
  };
  run_on_gpus(2, body, 5);
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
  const std::size_t allocations = cuda_host::live_allocations();
  for (int i = 0; i < 20; ++i) {
    run_on_gpus(1 + i % 4, [](Communicator& nccl, core::Device& device) {
      const Tensor data = constant(device, 8, 1);
      nccl.all_reduce(Span(data), Reduce::sum);  // pending when the communicator goes
    });
    ASSERT_EQ(cuda_host::live_communicators(), 0u);
    ASSERT_EQ(cuda_host::live_allocations(), allocations);
  }
}

TEST_F(NcclStreams, Pitfall34_ACpuHasNoNccl) {
  dist::run_ranks(1, [](Communicator& host) {
    const auto device = core::make_cpu_device(1);
    expect_error<core::InternalError>([&] { dist::make_nccl(*device, host, 1); }, testing::HasSubstr("joins GPUs"));
  });
}

}  // namespace
}  // namespace muonp::test
