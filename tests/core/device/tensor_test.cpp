#include "core/device/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "core/device/host_memory.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/test_device.h"

using namespace muonp::core;
using namespace muonp::test;

TEST(Allocator, CountsLiveAndPeakByCategory) {
  auto device = make_test_device(1);
  const std::int64_t before = device->allocator()->use().live_total;  // a GPU's queue has its workspace
  {
    const Tensor a = Tensor::empty(*device, {100}, Dtype::float32, Category::weights);
    const Tensor b = Tensor::zeros(*device, {3, 5}, Dtype::bfloat16, Category::activations);
    EXPECT_EQ(device->allocator()->use().of(Category::weights), 400);
    EXPECT_EQ(device->allocator()->use().of(Category::activations), 30);
    EXPECT_EQ(device->allocator()->use().live_total - before, 430);
  }
  const MemoryUse use = device->allocator()->use();
  EXPECT_EQ(use.live_total, before);
  EXPECT_EQ(use.peak_total - before, 430);
  EXPECT_EQ(use.peak_of(Category::weights), 400);
}

TEST(Allocator, ReusesFreedBlocksAndAligns) {
  auto device = make_test_device(1);
  void* first = Tensor::empty(*device, {5000}, Dtype::float32, Category::other).raw();
  const Tensor again = Tensor::empty(*device, {5000}, Dtype::float32, Category::other);
  EXPECT_EQ(again.raw(), first);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % (on_gpu() ? 256 : 4096), 0u);
}

// A system with room for so many bytes; it promises more.
class Overcommitting final : public CachingAllocator {
 public:
  explicit Overcommitting(std::int64_t most) : most_(most) {}
  ~Overcommitting() override { trim(); }
  std::int64_t taken = 0, most_taken = 0;

 private:
  bool has_room(std::int64_t bytes) override { return taken + bytes <= most_; }
  void* obtain(std::int64_t bytes) override {
    taken += bytes;
    most_taken = std::max(most_taken, taken);
    auto* block = static_cast<std::int64_t*>(std::malloc(static_cast<std::size_t>(bytes) + 64));
    *block = bytes;
    return block;
  }
  void give_back(void* block) noexcept override {
    taken -= *static_cast<std::int64_t*>(block);
    std::free(block);
  }
  std::string where() const override { return "in a test"; }
  std::int64_t most_;
};

TEST(Allocator, GivesItsCacheBackBeforeMemoryRunsOut) {
  constexpr std::int64_t kBlock = 1 << 20;
  Overcommitting allocator(4 * kBlock);
  for (const std::int64_t blocks : {1, 2, 3, 1, 3}) {
    const std::int64_t bytes = blocks * kBlock;
    allocator.release(allocator.allocate(bytes, Category::other), bytes, Category::other);
  }
  EXPECT_LE(allocator.most_taken, 4 * kBlock);
  EXPECT_EQ(allocator.taken, 4 * kBlock);  // 3 and 1 are kept
}

TEST(HostMemory, IsWhatTheHostAndEveryGroupAboveLeave) {
  EXPECT_GT(free_host_memory(), 0);
  const TemporaryFolder root;
  const auto file = [&](const std::string& path, const std::string& content) {
    std::filesystem::create_directories(root / path.substr(0, path.rfind('/')));
    put(root / path, content);
  };
  EXPECT_EQ(free_host_memory(root.path()), std::numeric_limits<std::int64_t>::max());
  file("proc/meminfo", "MemTotal:       9000 kB\nMemFree:  10 kB\nMemAvailable:    5000 kB\n");
  EXPECT_EQ(free_host_memory(root.path()), 5000 * 1024);
  file("proc/self/cgroup", "12:cpuset:/\n4:memory:/jobs/17\n0::/slice/job\n");
  EXPECT_EQ(free_host_memory(root.path()), 5000 * 1024);
  file("sys/fs/cgroup/slice/job/memory.max", "max\n");
  file("sys/fs/cgroup/slice/job/memory.current", "2000\n");
  EXPECT_EQ(free_host_memory(root.path()), 5000 * 1024);
  file("sys/fs/cgroup/slice/memory.max", "3000\n");
  file("sys/fs/cgroup/slice/memory.current", "2500\n");
  EXPECT_EQ(free_host_memory(root.path()), 500);
  file("sys/fs/cgroup/slice/memory.stat", "anon 2100\ninactive_file 300\nactive_file 100\n");
  EXPECT_EQ(free_host_memory(root.path()), 900);
  file("sys/fs/cgroup/memory/jobs/17/memory.limit_in_bytes", "1000\n");
  file("sys/fs/cgroup/memory/jobs/17/memory.usage_in_bytes", "950\n");
  file("sys/fs/cgroup/memory/jobs/17/memory.stat", "inactive_file 7\ntotal_inactive_file 20\n");
  EXPECT_EQ(free_host_memory(root.path()), 70);
}

TEST(Tensor, ViewsShareStorage) {
  auto device = make_test_device(1);
  const Tensor t = Tensor::zeros(*device, {2, 3}, Dtype::float32, Category::other);
  set_value(t[1], 2, 7.0f);
  EXPECT_EQ(value_of(t.flat(5, 1)), 7);
  EXPECT_EQ(value_of(t.view({3, 2}), 5), 7);
  EXPECT_THROW(t.view({7}), InternalError);
  EXPECT_THROW(t.flat(4, 3), InternalError);
  EXPECT_THROW(t.data<std::int32_t>(), InternalError);
}

TEST(Dtype, EveryBfloat16AndFloat16RoundTrips) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 b;
    b.bits = static_cast<std::uint16_t>(bits);
    float16 h;
    h.bits = static_cast<std::uint16_t>(bits);
    if (!std::isnan(float(b))) {
      EXPECT_EQ(bfloat16(float(b)).bits, bits);
    }
    if (!std::isnan(float(h))) {
      EXPECT_EQ(float16(float(h)).bits, bits);
    }
    EXPECT_EQ(std::isnan(float(h)), (bits & 0x7fffu) > 0x7c00u);
  }
}

TEST(Dtype, RoundsToNearestEven) {
  EXPECT_EQ(float(bfloat16(1.0f + 0x1p-8f)), 1.0f);  // tie to even
  EXPECT_EQ(float(bfloat16(1.0f + 0x1.8p-8f)), 1.0f + 0x1p-7f);
  EXPECT_EQ(float(float16(1.0f + 0x1p-11f)), 1.0f);
  EXPECT_EQ(float(float16(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(float(float16(65520.0f))));
  EXPECT_EQ(float(float16(0x1p-25f)), 0.0f);
  EXPECT_EQ(float(float16(0x1.8p-24f)), 0x1p-23f);  // tie between two subnormals, to even
  EXPECT_TRUE(std::isnan(float(bfloat16(NAN))));
}
