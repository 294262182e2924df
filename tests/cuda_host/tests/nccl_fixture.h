// Ranks as threads, each with a device, a stream and a communicator of its own.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda_host_fixture.h"
#include "cuda_host_nccl.h"

struct NcclRank {
  int rank = 0, ranks = 1;
  cudaStream_t stream = nullptr;
  ncclComm_t comm = nullptr;

  // The result of a call when it is no longer in progress.
  ncclResult_t settle(ncclResult_t result) const {
    while (result == ncclInProgress) {
      if (ncclCommGetAsyncError(comm, &result) != ncclSuccess) return ncclInvalidArgument;
      std::this_thread::yield();
    }
    return result;
  }
  // What became of a call, and of its operation.
  ncclResult_t outcome(ncclResult_t result) const {
    result = settle(result);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    ncclResult_t later = ncclSuccess;
    EXPECT_EQ(ncclCommGetAsyncError(comm, &later), ncclSuccess);
    return result == ncclSuccess ? later : result;
  }
};

class NcclHost : public CudaHost {
 protected:
  static constexpr int kDevices = 4;

  void SetUp() override { start_nccl(cuda_host::Mode::kInline, 1); }
  void TearDown() override {
    unsetenv("CUDA_HOST_NCCL_TIMEOUT");
    CudaHost::TearDown();
  }

  void start_nccl(cuda_host::Mode mode, uint64_t seed) {
    cuda_host::Settings settings;
    settings.mode = mode;
    settings.seed = seed;
    settings.devices = kDevices;
    start(settings);
  }

  static void time_out_after(const char* seconds) { setenv("CUDA_HOST_NCCL_TIMEOUT", seconds, 1); }

  static ncclResult_t init(NcclRank& rank, const ncclUniqueId& id, bool blocking) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking ? 1 : 0;
    return rank.settle(ncclCommInitRankConfig(&rank.comm, rank.ranks, id, rank.rank, &config));
  }

  // The orderly way from start to end.
  static void run(int ranks, bool blocking, const std::function<void(NcclRank&)>& body) {
    on_ranks(ranks, [&](NcclRank& rank, const ncclUniqueId& id) {
      ASSERT_EQ(init(rank, id, blocking), ncclSuccess);
      body(rank);
      EXPECT_EQ(rank.settle(ncclCommFinalize(rank.comm)), ncclSuccess);
      EXPECT_EQ(ncclCommDestroy(rank.comm), ncclSuccess);
    });
  }

  // Ends with an abort, which is right whatever happened before.
  static void run_to_abort(int ranks, bool blocking, const std::function<void(NcclRank&)>& body) {
    on_ranks(ranks, [&](NcclRank& rank, const ncclUniqueId& id) {
      ASSERT_EQ(init(rank, id, blocking), ncclSuccess);
      body(rank);
      EXPECT_EQ(ncclCommAbort(rank.comm), ncclSuccess);
    });
  }

  static void on_ranks(int ranks, const std::function<void(NcclRank&, const ncclUniqueId&)>& body) {
    ncclUniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    std::vector<std::jthread> threads;
    for (int r = 0; r < ranks; ++r) {
      threads.emplace_back([&, r] {
        EXPECT_EQ(cudaSetDevice(r), cudaSuccess);
        NcclRank rank{r, ranks, stream(), nullptr};
        body(rank, id);
        EXPECT_EQ(cudaStreamDestroy(rank.stream), cudaSuccess);
      });
    }
  }
};
