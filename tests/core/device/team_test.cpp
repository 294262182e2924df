// Products and kernels when OpenMP starts fewer threads than the device has, and from within a user's parallel region.
// Values are small integers, so that every result is exact.
#include "core/device/cpu/team.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <thread>
#include <vector>

#include "core/autograd/ops/attention.h"
#include "core/base/rng.h"
#include "core/device/blas.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/test_device.h"

namespace muonp::core {
namespace {

// What OpenMP is told on this thread, as it was before.
class Restored {
 public:
  ~Restored() {
    omp_set_max_active_levels(levels_);
    omp_set_dynamic(dynamic_);
    omp_set_num_threads(threads_);
  }

 private:
  int levels_ = omp_get_max_active_levels(), dynamic_ = omp_get_dynamic(), threads_ = omp_get_max_threads();
};

Tensor integers(Device& device, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  const Tensor tensor = Tensor::empty(device, {rows, cols}, Dtype::float32, Category::other);
  for (std::int64_t i = 0; i < tensor.size(); ++i)
    tensor.data<float>()[i] = static_cast<float>(random_below(seed, 0, static_cast<std::uint64_t>(i), 9)) - 4;
  return tensor;
}

// Entries of a product [n, n] that are wrong; n is large enough for the library to cut it into parts.
int wrong_entries(Device& device, std::int64_t n) {
  const Tensor a = integers(device, n, n, 1), b = integers(device, n, n, 2),
               c = Tensor::zeros(device, {n, n}, Dtype::float32, Category::other);
  gemm(device.queue(), Op::none, Op::none, 1, MatrixView(a), MatrixView(b), 0, MatrixView(c));
  int wrong = 0;
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += double(a.data<float>()[r * n + i]) * b.data<float>()[i * n + j];
      wrong += c.data<float>()[r * n + j] != static_cast<float>(sum);
    }
  return wrong;
}

TEST(Team, ProductsAreWholeWhenFewerThreadsRunThanTheDeviceHas) {
  const Restored restored;
  const auto device = make_cpu_device(3);
  omp_set_max_active_levels(0);  // as OMP_MAX_ACTIVE_LEVELS=0: every team has one thread
  EXPECT_EQ(cpu::counted_team(3), 1);
  EXPECT_EQ(wrong_entries(*device, 384), 0);
  EXPECT_EQ(wrong_entries(*make_cpu_device(1, Bfloat16::emulated), 384), 0);
}

TEST(Team, ProductsAreWholeOnAThreadThatTheDeviceWasNotMadeOn) {
  const Restored restored;
  const auto device = make_cpu_device(3);
  std::thread([&] {
    omp_set_dynamic(1);
    omp_set_num_threads(7);
    EXPECT_EQ(wrong_entries(*device, 384), 0);
    EXPECT_EQ(omp_get_max_threads(), 7);  // the thread's own settings are as they were
    EXPECT_EQ(omp_get_dynamic(), 1);
  }).join();
}

TEST(Team, ADeviceWithMoreThreadsThanRunIsRefusedByTheVariablesName) {
  const Restored restored;
  omp_set_max_active_levels(0);
  const std::string message = test::message_of<Error>([] { make_cpu_device(2); });
  EXPECT_THAT(message, testing::HasSubstr("2 threads were asked for, but OpenMP starts 1"));
  EXPECT_THAT(message, testing::HasSubstr("OMP_MAX_ACTIVE_LEVELS=0"));
  EXPECT_EQ(make_cpu_device(0)->queue().threads(), 1);
}

TEST(Team, DynamicTeamsDoNotShrinkTheDevice) {
  const Restored restored;
  omp_set_dynamic(1);
  EXPECT_EQ(make_cpu_device(5)->queue().threads(), 5);
}

// Each thread of a user's parallel region with a device of its own.
TEST(Team, WithinAParallelRegionEachThreadComputesWithItsDevice) {
  const Restored restored;
  omp_set_dynamic(0);
  std::vector<int> wrong(3, -1);
  std::vector<std::string> refused(3), failed(3);
#pragma omp parallel num_threads(3)
  {
    const auto me = static_cast<std::size_t>(omp_get_thread_num());
    refused[me] = test::message_of<Error>([] { make_cpu_device(2); });
    failed[me] = test::message_of<InternalError>([&] {
      const auto device = make_cpu_device(1);
      wrong[me] = wrong_entries(*device, 96);
      Tape tape(*device, false);
      const Tensor qkv = Tensor::zeros(*device, {1, 5, 12}, Dtype::float32, Category::other);
      ops::attention(tape, tape.constant(qkv), {.queries = 2, .keys = 2, .size = 2});
    });
  }
  EXPECT_THAT(wrong, testing::Each(0));
  EXPECT_THAT(failed, testing::Each(""));
  EXPECT_THAT(refused, testing::Each(testing::HasSubstr("within a parallel region")));
}

}  // namespace
}  // namespace muonp::core
