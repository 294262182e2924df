#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

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
  EXPECT_EQ(float(bfloat16(1.0f + 0x1p-8f)), 1.0f);                 // tie to even
  EXPECT_EQ(float(bfloat16(1.0f + 0x1.8p-8f)), 1.0f + 0x1p-7f);
  EXPECT_EQ(float(float16(1.0f + 0x1p-11f)), 1.0f);
  EXPECT_EQ(float(float16(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(float(float16(65520.0f))));
  EXPECT_EQ(float(float16(0x1p-25f)), 0.0f);
  EXPECT_EQ(float(float16(0x1.8p-24f)), 0x1p-23f);                  // tie between two subnormals, to even
  EXPECT_TRUE(std::isnan(float(bfloat16(NAN))));
}
