// What happens when a rank, its GPU or NCCL fails: every rank ends, in time, with a message that says what
// and where.
#include <atomic>
#include <chrono>
#include <thread>

#include "cuda_host_nccl.h"
#include "dist/comm/async.h"
#include "dist/comm/decorators.h"
#include "tests/dist/expect_error.h"
#include "tests/dist/nccl/gpu_ranks.h"

namespace muonp::test {
namespace {

using core::Dtype;
using core::Error;
using core::Tensor;
using cuda_host::Mode;
using dist::Communicator;
using dist::Reduce;
using dist::Span;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

// In both modes of the stand-in, and never for longer than a few seconds.
class NcclFailures : public GpuRanks, public testing::WithParamInterface<Mode> {
 protected:
  void SetUp() override { start(GetParam(), 5); }
  void TearDown() override {
    EXPECT_LT(std::chrono::steady_clock::now() - begin_, std::chrono::seconds(15));
    GpuRanks::TearDown();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};
INSTANTIATE_TEST_SUITE_P(Stands, NcclFailures, testing::Values(Mode::kInline, Mode::kAsync),
                         [](const auto& instance) { return instance.param == Mode::kInline ? "Inline" : "Async"; });

Tensor zeros(core::Device& device, std::int64_t count) {
  return Tensor::zeros(device, {count}, Dtype::float32, core::Category::other);
}

// Calls the operation, and waits until it has failed.
void expect_failure(Communicator& nccl, core::Device& device, const std::function<void()>& operation,
                    const testing::Matcher<std::string>& message) {
  expect_error<Error>(
      [&] {
        operation();
        device.queue().synchronize();
        for (;;) nccl.wait_for({});  // until the watchdog has seen it
      },
      message);
}

TEST_P(NcclFailures, Pitfall43_ARankThatThrowsEndsTheOthers) {
  std::atomic<int> told = 0;
  const auto body = [&](Communicator& nccl, core::Device& device) {
    const Tensor data = zeros(device, 8);
    if (nccl.rank() == 1) core::fail("the disk is full");
    expect_failure(
        nccl, device, [&] { nccl.all_reduce(Span(data), Reduce::sum); },
        AnyOf(AllOf(HasSubstr("all_reduce(sum) of 8 float32"), HasSubstr("rank 1 has left")),
              HasSubstr("rank 1 of 3 failed: the disk is full")));
    ++told;
    core::fail("rank {} goes too", nccl.rank());
  };
  expect_error<Error>([&] { run_on_gpus(3, body); }, AnyOf(HasSubstr("the disk is full"), HasSubstr("goes too")));
  EXPECT_EQ(told, 2);
}

TEST_P(NcclFailures, Pitfall43_ARankThatNeverCallsIsATimeOutThatNamesTheOperation) {
  std::atomic<int> told = 0;
  const auto body = [&](Communicator& nccl, core::Device& device) {
    const Tensor data = zeros(device, 8);
    nccl.broadcast(Span(data), 0);
    if (nccl.rank() == 1) {
      while (told < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return;
    }
    const Tensor gathered = zeros(device, 9);
    // What the rank says whose time is over first.
    expect_failure(
        nccl, device, [&] { nccl.all_gather(Span(gathered)); },
        AllOf(AnyOf(HasSubstr("rank 0, GPU 0"), HasSubstr("rank 2, GPU 2")),
              HasSubstr("all_gather of 9 float32 (operation 2) made no progress for 0.5 s")));
    // And so all later ones, on the host too.
    expect_error<Error>([&] { nccl.barrier(); }, HasSubstr("all_gather of 9 float32"));
    expect_error<Error>([&] { nccl.broadcast(Span(data), 0); }, HasSubstr("all_gather of 9 float32"));
    ++told;
  };
  run_on_gpus(3, body, 0.5);
  EXPECT_EQ(told, 2);
}

TEST_P(NcclFailures, AnErrorThatNcclReportsLaterEndsEveryRank) {
  std::atomic<int> told = 0;
  run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
    const Tensor data = zeros(device, 8);
    nccl.all_reduce(Span(data), Reduce::sum);
    device.queue().synchronize();
    nccl.barrier();
    if (nccl.rank() == 0) cuda_host::provoke_async_error(0, ncclSystemError, "the link is down");
    expect_error<Error>(
        [&] {
          if (nccl.rank() == 1) nccl.barrier();
          for (;;) nccl.wait_for({});
        },
        AllOf(HasSubstr("rank 0, GPU 0"), HasSubstr("ncclSystemError"), HasSubstr("the link is down")));
    ++told;
  });
  EXPECT_EQ(told, 2);
}

TEST_P(NcclFailures, Pitfall29_DifferentCountsAreNamed) {
  const auto different = [](Communicator& communicator, core::Device& device) {
    const Tensor data = zeros(device, 12);
    communicator.all_reduce(Span(data).part(0, communicator.rank() == 2 ? 11 : 12), Reduce::sum);
  };
  // Compared on the host first, where that is asked for.
  expect_error<Error>(
      [&] {
        run_on_gpus(3, [&](Communicator& nccl, core::Device& device) {
          dist::Checking checking(nccl);
          different(checking, device);
        });
      },
      AllOf(HasSubstr("rank 0 calls all_reduce(sum) of 12 float32"), HasSubstr("rank 2 calls all_reduce(sum) of 11")));
  // Otherwise the stand-in tells; the real library may wait for ever, and the watchdog ends it.
  run_on_gpus(3, [&](Communicator& nccl, core::Device& device) {
    expect_failure(
        nccl, device, [&] { different(nccl, device); },
        AllOf(HasSubstr("all_reduce(sum) of"), HasSubstr("rank 2 calls ncclAllReduce of 11 ncclFloat32")));
  });
  EXPECT_THAT(cuda_host::take_reports(), testing::ElementsAre(HasSubstr("rank 2 calls ncclAllReduce of 11")));
}

// What two ranks call differently, and the words that must name it on both, and in the stand-in's report.
TEST_P(NcclFailures, Pitfall29_DifferentTypesOrdersAndRootsAreNamed) {
  struct Difference {
    const char* words;
    std::function<void(Communicator&, const Tensor&, const Tensor&)> call;
  };
  const Difference differences[] = {
      {"rank 0 calls ncclAllReduce of 8 ncclFloat32, ncclSum (operation 0), rank 1 calls ncclAllReduce of 8 "
       "ncclBfloat16",
       [](Communicator& nccl, const Tensor& wide, const Tensor& narrow) {
         nccl.all_reduce(nccl.rank() == 0 ? Span(wide) : Span(narrow), Reduce::sum);
       }},
      {"rank 0 calls ncclAllReduce of 8 ncclFloat32, ncclSum (operation 0), rank 1 calls ncclAllGather of 4",
       [](Communicator& nccl, const Tensor& wide, const Tensor&) {
         if (nccl.rank() == 1) nccl.all_gather(Span(wide));
         nccl.all_reduce(Span(wide), Reduce::sum);
         if (nccl.rank() == 0) nccl.all_gather(Span(wide));
       }},
      {"ncclMax (operation 0), rank 1 calls ncclAllReduce of 8 ncclFloat32, ncclSum",
       [](Communicator& nccl, const Tensor& wide, const Tensor&) {
         nccl.all_reduce(Span(wide), nccl.rank() == 0 ? Reduce::max : Reduce::sum);
       }},
      {"ncclBroadcast of 8 ncclFloat32, root 0 (operation 0), rank 1 calls ncclBroadcast of 8 ncclFloat32, root 1",
       [](Communicator& nccl, const Tensor& wide, const Tensor&) { nccl.broadcast(Span(wide), nccl.rank()); }},
      {"rank 0 calls ncclSend of 8 ncclFloat32 to rank 1 (operation 0), rank 1 calls ncclRecv of 7",
       [](Communicator& nccl, const Tensor& wide, const Tensor&) {
         const dist::Transfer to{1, Span(wide)}, from{0, Span(wide).part(0, 7)};
         nccl.rank() == 0 ? nccl.exchange({&to, 1}, {}) : nccl.exchange({}, {&from, 1});
       }}};
  for (const Difference& d : differences) {
    std::atomic<int> told = 0;
    run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
      const Tensor wide = zeros(device, 8);
      const Tensor narrow = Tensor::zeros(device, {8}, Dtype::bfloat16, core::Category::other);
      expect_failure(
          nccl, device, [&] { d.call(nccl, wide, narrow); }, HasSubstr(d.words));
      ++told;
    });
    EXPECT_EQ(told, 2) << d.words;
    EXPECT_THAT(cuda_host::take_reports(), testing::ElementsAre(HasSubstr(d.words)));
  }
}

TEST_P(NcclFailures, ACallThatNcclRefusesEndsEveryRank) {
  std::atomic<int> told = 0;
  run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
    const Tensor data = zeros(device, 8);
    nccl.barrier();
    if (nccl.rank() == 0) cuda_host::fail_next("ncclBroadcast", cudaErrorUnknown);
    nccl.barrier();
    expect_failure(
        nccl, device, [&] { nccl.broadcast(Span(data), 0); }, HasSubstr("broadcast of 8 float32 from rank 0"));
    ++told;
  });
  EXPECT_EQ(told, 2);
}

TEST_P(NcclFailures, AbortEndsPendingAndLaterOperations) {
  std::atomic<int> told = 0;
  run_on_gpus(2, [&](Communicator& nccl, core::Device& device) {
    const Tensor data = zeros(device, 8);
    if (nccl.rank() == 0) {
      std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        nccl.abort("enough");
      });
      expect_failure(
          nccl, device, [&] { nccl.all_reduce(Span(data), Reduce::sum); }, HasSubstr("enough"));
      other.join();
      expect_error<Error>([&] { nccl.barrier(); }, HasSubstr("enough"));
    } else {
      expect_error<Error>([&] { nccl.barrier(); }, HasSubstr("enough"));
    }
    ++told;
  });
  EXPECT_EQ(told, 2);
}

TEST_P(NcclFailures, TheQueueOfWorkDeliversAFailure) {
  run_on_gpus(1, [](Communicator& nccl, core::Device& device) {
    dist::AsyncQueue async(nccl);
    const Tensor data = zeros(device, 8);
    const auto before = async.submit([&] { nccl.all_reduce(Span(data), Reduce::sum); });
    const auto failing = async.submit([] { core::fail("out of data"); });
    async.wait(before);
    expect_error<Error>([&] { async.wait(failing); }, HasSubstr("out of data"));
    expect_error<Error>([&] { async.drain(); }, HasSubstr("out of data"));
    expect_error<Error>([&] { async.submit([] {}); }, HasSubstr("out of data"));
    nccl.all_reduce(Span(data), Reduce::sum);  // the overlap is over
  });
}

TEST_P(NcclFailures, Pitfall34_TwoRanksOnOneGpuAreNamed) {
  const auto body = [](Communicator& host) {
    const auto device = core::make_cuda_device(host.rank() == 2 ? 0 : host.rank(), "a rank");
    dist::make_nccl(*device, host, 10);
  };
  expect_error<Error>([&] { dist::run_ranks(3, body); },
                      AllOf(HasSubstr("ranks 0 and 2 share the GPU"), HasSubstr("as it has GPUs")));
}

TEST_P(NcclFailures, ARankThatCannotInitialiseIsNamedOnAll) {
  std::atomic<int> told = 0;
  const auto body = [&](Communicator& host) {
    const auto device = core::make_cuda_device(host.rank(), fmt::format("rank {}", host.rank()));
    if (host.rank() == 1) cuda_host::fail_next("ncclCommInitRank", cudaErrorUnknown);
    host.barrier();
    try {
      dist::make_nccl(*device, host, 2);
    } catch (const Error& e) {
      EXPECT_THAT(std::string(e.what()), HasSubstr("ncclCommInitRankConfig failed on rank"));
      ++told;
    }
  };
  dist::run_ranks(3, body);
  EXPECT_EQ(told, 3);
}

TEST_P(NcclFailures, AFailedGpuIsNamed) {
  run_on_gpus(1, [](Communicator& nccl, core::Device& device) {
    const Tensor data = zeros(device, 8);
    cuda_host::fail_next("cudaEventQuery", cudaErrorIllegalAddress);
    expect_error<Error>(
        [&] {
          nccl.all_reduce(Span(data), Reduce::sum);
          for (;;) nccl.wait_for({});
        },
        AllOf(HasSubstr("all_reduce(sum) of 8 float32 (operation 1): the GPU failed"),
              HasSubstr("cudaErrorIllegalAddress")));
  });
}

}  // namespace
}  // namespace muonp::test
