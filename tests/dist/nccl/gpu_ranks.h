// Ranks as threads, each with a GPU of the stand-in and NCCL between them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "cuda_host.h"
#include "dist/comm/thread.h"
#include "dist/nccl/nccl.h"
#include "tests/dist/nccl/through_device.h"

namespace muonp::test {

// Devices made in its scope hand out a block of cudaMalloc for each tensor (core/device/allocator.h).
struct NoMemoryCache {
  NoMemoryCache() { setenv("MUONP_NO_MEMORY_CACHE", "1", 1); }
  ~NoMemoryCache() { unsetenv("MUONP_NO_MEMORY_CACHE"); }
  NoMemoryCache(const NoMemoryCache&) = delete;
  NoMemoryCache& operator=(const NoMemoryCache&) = delete;
};

// Every test starts with a fresh stand-in of four GPUs, and must have asked for each report that it caused.
class GpuRanks : public testing::Test {
 protected:
  using Body = std::function<void(dist::Communicator&, core::Device&)>;
  static constexpr double kTimeOut = 30;  // seconds; of tests that mean to see none

  void SetUp() override { start(cuda_host::Mode::kInline, 1); }
  void TearDown() override {
    cuda_host::configure(cuda_host::Settings{});  // looks for leaks and damaged memory
    EXPECT_THAT(cuda_host::take_reports(), testing::IsEmpty());
  }
  static void start(cuda_host::Mode mode, std::uint64_t seed) {
    cuda_host::Settings settings;
    settings.mode = mode;
    settings.seed = seed;
    settings.devices = 4;
    cuda_host::configure(settings);
  }
  static void run_on_gpus(int ranks, const Body& body, double timeout_seconds = kTimeOut) {
    dist::run_ranks(ranks, [&](dist::Communicator& host) {
      const auto device = core::make_cuda_device(host.rank(), fmt::format("rank {}", host.rank()));
      const auto nccl = dist::make_nccl(*device, host, timeout_seconds);
      body(*nccl, *device);
    });
  }

 private:
  cuda_host::CollectReports collect_;
};

}  // namespace muonp::test
