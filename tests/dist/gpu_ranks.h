// Ranks as threads, each with a GPU of the stand-in and NCCL between them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "cuda_host.h"
#include "dist/nccl.h"
#include "dist/operation.h"
#include "dist/thread.h"

namespace muonp::test {

// Devices made in its scope hand out a block of cudaMalloc for each tensor (core/allocator.h).
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

// Host memory in, host memory out, through the GPU: what lets the checks of all communicators see NCCL's.
class ThroughDevice final : public dist::Communicator {
 public:
  ThroughDevice(dist::Communicator& inner, core::Device& device) : inner_(inner), device_(device) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string description() const override { return inner_.description(); }
  void barrier() override { inner_.barrier(); }
  void broadcast(dist::Span data, int root) override {
    const core::Tensor t = up(data);
    inner_.broadcast(on_device(t, data), root);
    down(t, data);
  }
  void all_reduce(dist::Span data, dist::Reduce op) override {
    const core::Tensor t = up(data);
    inner_.all_reduce(on_device(t, data), op);
    down(t, data);
  }
  void all_reduce(std::span<double> values, dist::Reduce op) override { inner_.all_reduce(values, op); }
  void reduce_scatter(dist::Span data) override {
    const core::Tensor t = up(data);
    inner_.reduce_scatter(on_device(t, data));
    down(t, data);
  }
  void all_gather(dist::Span data) override {
    const core::Tensor t = up(data);
    inner_.all_gather(on_device(t, data));
    down(t, data);
  }
  void exchange(std::span<const dist::Transfer> sends, std::span<const dist::Transfer> receives) override {
    std::vector<core::Tensor> out, in;
    std::vector<dist::Transfer> device_sends, device_receives;
    for (const dist::Transfer& s : sends) {
      out.push_back(up(s.span));
      device_sends.push_back({s.peer, on_device(out.back(), s.span)});
    }
    for (const dist::Transfer& r : receives) {
      in.push_back(empty(r.span));
      device_receives.push_back({r.peer, on_device(in.back(), r.span)});
    }
    inner_.exchange(device_sends, device_receives);
    for (std::size_t i = 0; i < in.size(); ++i) down(in[i], receives[i].span);
  }
  std::vector<std::string> all_gather_bytes(const std::string& mine) override {
    return inner_.all_gather_bytes(mine);
  }
  void abort(const std::string& why) noexcept override { inner_.abort(why); }

 private:
  core::Tensor empty(dist::Span data) {
    return core::Tensor::empty(device_, {data.count}, data.dtype, core::Category::other);
  }
  core::Tensor up(dist::Span data) {
    dist::validate(data);
    core::Tensor t = empty(data);
    if (data.count > 0) device_.queue().write(t.raw(), data.data, data.bytes());
    return t;
  }
  static dist::Span on_device(const core::Tensor& t, dist::Span data) {
    return {t.raw(), data.count, data.dtype};
  }
  void down(const core::Tensor& t, dist::Span data) {
    if (data.count > 0) device_.queue().read(data.data, t.raw(), data.bytes());
  }
  dist::Communicator& inner_;
  core::Device& device_;
};

}  // namespace muonp::test
