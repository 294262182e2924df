// Ranks as threads, each with a device: the CPU, or with MUONP_TEST_DEVICE=cuda the GPU of its number and
// NCCL between them.
#pragma once

#include <functional>

#include "dist/comm/thread.h"
#include "dist/nccl/nccl.h"
#include "tests/support/test_device.h"

namespace muonp::test {

inline void run_on_devices(int ranks, const std::function<void(dist::Communicator&, core::Device&)>& body) {
  dist::run_ranks(ranks, [&](dist::Communicator& host) {
    if (!on_gpu()) {
      const TestDevice cpu = make_cpu_test_device(1);
      return body(host, *cpu);
    }
    const TestDevice gpu = remember(core::make_cuda_device(host.rank(), fmt::format("rank {}", host.rank())));
    const auto nccl = dist::make_nccl(*gpu, host, 30);
    body(*nccl, *gpu);
  });
}

}  // namespace muonp::test
