#include "core/device/host_view.h"

#include <gtest/gtest.h>

#include "core/device/offload.h"
#include "tests/support/test_device.h"

using namespace muonp::core;
using namespace muonp::test;

namespace {

struct HostViews : ::testing::Test {
  TestDevice device = make_test_device();
  Queue& queue = device->queue();

  Tensor zeros(Shape shape, Dtype dtype = Dtype::float32) {
    return Tensor::zeros(*device, std::move(shape), dtype, Category::other);
  }
};

// A GPU's queue, whose copies from memory that is not its device's are a mistake: none of these tensors' is.
class DeviceCopiesFail final : public Queue {
 public:
  explicit DeviceCopiesFail(Device& device) : device_(device) {}
  DeviceKind kind() const override { return DeviceKind::cuda; }
  Device& device() override { return device_; }
  int threads() const override { return 1; }
  void synchronize() override { ++synchronized; }
  std::unique_ptr<TimePoint> now() override { return nullptr; }
  void copy(void*, const void*, std::int64_t) override { fail("a device's copy"); }
  void fill_zero(void*, std::int64_t) override { fail("a device's fill"); }
  void read(void*, const void*, std::int64_t) override { fail("a copy from the device"); }
  void write(void*, const void*, std::int64_t) override { fail("a copy to the device"); }
  void multiply(const Product&, std::int64_t, const std::array<std::int64_t, 3>&) override { fail("a product"); }
  int synchronized = 0;

 private:
  Device& device_;
};

}  // namespace

TEST_F(HostViews, WhatLiesInHostMemoryIsNotCopiedByTheDevice) {
  DeviceCopiesFail gpu(*device);
  const Tensor t = Tensor::staging(*device, {3}, Dtype::float32, Category::other);
  for (int i = 0; i < 3; ++i) t.data<float>()[i] = static_cast<float>(i + 1);
  float copy[3] = {};
  read_tensor(gpu, t, copy);
  EXPECT_EQ(copy[2], 3);
  EXPECT_EQ(gpu.synchronized, 1);
  EXPECT_EQ(read_scalar(gpu, t.flat(1, 1)), 2);
  EXPECT_EQ(HostView(gpu, t, Access::read).raw(), t.raw());
  EXPECT_THROW(t.flat(0, 1).copy_from(gpu, t.flat(1, 1)), InternalError);
  read_tensor(queue, t, copy);
  EXPECT_EQ(copy[0], 1);
}

TEST_F(HostViews, AreTheTensorsOwnMemoryOnTheCpuAndACopyOnAGpu) {
  const Tensor t = zeros({2, 3});
  EXPECT_EQ(HostView(queue, t, Access::read).raw() == t.raw(), !on_gpu());
}

TEST_F(HostViews, CopiesAreCountedAsHostMemoryAndHandedOutAgain) {
  if (!on_gpu()) return;  // no copies
  const Tensor t = zeros({1000});
  const Allocator& host = *device->host_allocator();
  const std::int64_t on_device = device->allocator()->use().live_total;
  const void* first = nullptr;
  {
    const HostView view(queue, t, Access::read);
    first = view.raw();
    EXPECT_EQ(host.use().live_total, t.bytes());
  }
  EXPECT_EQ(host.use().live_total, 0);
  EXPECT_EQ(device->allocator()->use().live_total, on_device);
  EXPECT_EQ(HostView(queue, t, Access::read).raw(), first);
}

TEST_F(HostViews, WhatIsUploadedIsReadBackAlsoOfAPart) {
  const Tensor t = zeros({2, 3});
  const HostView write(queue, t[1], Access::write);
  for (std::size_t i = 0; i < 3; ++i) write.span<float>()[i] = static_cast<float>(i + 1);
  write.upload();
  const HostView read(queue, t, Access::read);
  EXPECT_EQ(std::vector<float>(read.span<float>().begin(), read.span<float>().end()),
            (std::vector<float>{0, 0, 0, 1, 2, 3}));
}

TEST_F(HostViews, ReadAndWriteBeginsWithTheElementsAndNothingElseChanges) {
  const Tensor t = zeros({4}, Dtype::bfloat16);
  set_values<bfloat16>(t, {bfloat16(1.0f), bfloat16(2.0f), bfloat16(3.0f), bfloat16(4.0f)});
  const HostView view(queue, t.flat(1, 2), Access::read_write);
  view.data<bfloat16>()[1] = bfloat16(view.data<bfloat16>()[0] * 8.0f);
  view.upload();
  std::vector<float> got;
  for (const bfloat16 b : values_of<bfloat16>(t)) got.push_back(b);
  EXPECT_EQ(got, (std::vector<float>{1, 2, 16, 4}));
}

TEST_F(HostViews, OnAGpuNothingChangesWithoutAnUpload) {
  const Tensor t = zeros({1});
  HostView(queue, t, Access::write).data<float>()[0] = 5;
  EXPECT_EQ(read_scalar(queue, t), on_gpu() ? 0 : 5);
}

TEST_F(HostViews, ReadingSeesWhatWasSubmittedBefore) {
  const std::int64_t n = 1 << 20;  // long enough to be on its way still
  const Tensor a = zeros({n}, Dtype::int32), b = zeros({n}, Dtype::int32);
  fill(a, 7);
  for (int i = 0; i < 4; ++i) {
    b.copy_from(queue, a);
    a.zero(queue);
    const HostView view(queue, b, Access::read);
    const int wanted = i == 0 ? 7 : 0;
    for (const std::int32_t v : view.span<std::int32_t>()) ASSERT_EQ(v, wanted) << i;
  }
}

TEST_F(HostViews, KeepTheTensorAlive) {
  const HostView view = [&] {
    const Tensor t = zeros({3});
    return HostView(queue, t, Access::write);
  }();
  EXPECT_EQ(device->allocator()->use().live_total % 1024, 12);  // and a GPU's workspace
  for (float& v : view.span<float>()) v = 1;
  view.upload();
}

TEST_F(HostViews, EmptyTensorsAreAllowed) {
  const HostView view(queue, zeros({0, 5}), Access::read_write);
  EXPECT_EQ(view.span<float>().size(), 0u);
  view.upload();
}

TEST_F(HostViews, AnotherElementTypeIsRefused) {
  const Tensor t = zeros({1});
  EXPECT_THROW(HostView(queue, t, Access::read).data<bfloat16>(), InternalError);
  EXPECT_THROW(read_scalar(queue, zeros({2})), InternalError);
  EXPECT_THROW(read_scalar(queue, zeros({1}, Dtype::int32)), InternalError);
}

TEST_F(HostViews, HostResultGivesWhatTheDeviceWrote) {
  const std::vector<std::int32_t> halves = {1, 0, 2, 0, -1, -1};  // of 64-bit integers
  const Tensor t = zeros({6}, Dtype::int32);
  set_values(t, halves);
  HostResult<std::int64_t> result(queue, 3);
  queue.copy(result.to_write(), t.raw(), t.bytes());
  EXPECT_EQ(result.read(), (std::vector<std::int64_t>{1, 2, -1}));
  HostResult<double> none(queue, 0);
  EXPECT_TRUE(none.read().empty());
}
