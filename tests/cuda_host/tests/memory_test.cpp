// Allocation, guard bands, fills, copies, and what is reported about them.
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "cuda_host_fixture.h"

namespace {

__global__ void write_at(float* values, int at) { values[at] = 1; }
__global__ void copy_value(const float* from, float* to) { *to = *from; }
__global__ void copy_values(const float* from, float* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) to[i] = from[i];
}
__global__ void double_values(float* values, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) values[i] = 2 * values[i];
}

using MemoryTest = CudaHost;
using MemoryDeathTest = CudaHost;

TEST_F(MemoryDeathTest, HostAccessToDeviceMemoryNamesTheAllocation) {
  float* p = device<float>(10);
  EXPECT_DEATH(p[3] = 1,
               "access to device memory at .* outside of an operation of device 0: byte 12 of allocation "
               "#1 of 40 bytes");
  EXPECT_DEATH(std::memset(p, 0, 4), "byte 0 of allocation #1 of 40 bytes");
  cudaFree(p);
}

TEST_F(MemoryTest, AllocationsAreAlignedAndUsable) {
  std::vector<char*> pointers;
  for (size_t bytes : {1U, 7U, 256U, 257U, 1U << 20}) {
    pointers.push_back(device<char>(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pointers.back()) % 256, 0U);
    EXPECT_EQ(cudaMemset(pointers.back(), 1, bytes), cudaSuccess);
  }
  for (char* p : pointers) EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  void* none = &pointers;
  EXPECT_EQ(cudaMalloc(&none, 0), cudaSuccess);
  EXPECT_EQ(none, nullptr);
}

TEST_F(MemoryTest, WritesOutsideAnAllocationAreReported) {
  float* p = device<float>(5);
  cuda_host::launch_flat(write_at, dim3(1), dim3(1), 0, nullptr, p, 5);
  cudaDeviceSynchronize();
  expect_report({"write 0 bytes past the end of allocation #1 of 20 bytes"});
  cuda_host::launch_flat(write_at, dim3(1), dim3(1), 0, nullptr, p, 66);
  cudaStreamSynchronize(nullptr);
  expect_report({"write 244 bytes past the end"});
  cuda_host::launch_flat(write_at, dim3(1), dim3(1), 0, nullptr, p, -1);
  cudaFree(p);
  expect_report({"write 4 bytes before the start of allocation #1"});
}

TEST_F(MemoryTest, WriteAfterFreeIsReported) {
  float* p = device<float>(5);
  cudaFree(p);
  float* q = device<float>(1);
  cuda_host::launch_flat(write_at, dim3(1), dim3(1), 0, nullptr, q, static_cast<int>(p + 2 - q));
  cuda_host::check_memory();
  expect_report({"write after free at byte 8 of the freed allocation #1 of 20 bytes"});
  cudaFree(q);
}

TEST_F(MemoryTest, UnwrittenAndFreedMemoryIsNaN) {
  float *p = device<float>(1), *q = device<float>(1);
  cuda_host::launch_flat(copy_value, dim3(1), dim3(1), 0, nullptr, p, q);
  EXPECT_TRUE(std::isnan(host(q, 1)[0]));
  cudaFree(p);
  cudaFree(q);
  double* d = device<double>(1);
  EXPECT_TRUE(std::isnan(host(d, 1)[0]));
  cudaFree(d);
}

TEST_F(MemoryTest, DoubleAndForeignFreesAreReported) {
  float* p = device<float>(4);
  cudaFree(p);
  EXPECT_EQ(cudaFree(p), cudaErrorInvalidValue);
  expect_report({"cudaFree", "not the start of a live allocation", "use after free: byte 0"});
  p = device<float>(4);
  EXPECT_EQ(cudaFree(p + 1), cudaErrorInvalidValue);
  expect_report({"cudaFree", "byte 4 of allocation"});
  float local = 0;
  EXPECT_EQ(cudaFree(&local), cudaErrorInvalidValue);
  expect_report({"memory that was not allocated there"});
  EXPECT_EQ(cudaFreeHost(p), cudaErrorInvalidValue);
  expect_report({"cudaFreeHost"});
  cudaFree(p);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
}

TEST_F(MemoryTest, UseAfterFreeByCopyAndMemsetIsReported) {
  float* p = device<float>(4);
  cudaFree(p);
  float local[4] = {};
  EXPECT_EQ(cudaMemcpyAsync(p, local, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  expect_report({"cudaMemcpyAsync: destination", "use after free", "allocation #1 of 16 bytes"});
  EXPECT_EQ(cudaMemcpyAsync(local, p, 16, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  expect_report({"cudaMemcpyAsync: source", "use after free"});
  EXPECT_EQ(cudaMemsetAsync(p, 0, 16), cudaErrorInvalidValue);
  expect_report({"cudaMemsetAsync: destination", "use after free"});
}

TEST_F(MemoryTest, CopiesPastAnAllocationAreReported) {
  float* p = device<float>(4);
  float local[8] = {};
  EXPECT_EQ(cudaMemcpy(p + 1, local, 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  expect_report({"destination: 16 bytes from byte 4 of allocation", "past its end"});
  EXPECT_EQ(cudaMemcpy2DAsync(local, 8, p, 8, 4, 3, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  expect_report({"source: 20 bytes"});
  cudaFree(p);
}

TEST_F(MemoryTest, CopiesOfAllKinds) {
  std::vector<int> values(100);
  std::iota(values.begin(), values.end(), 1);
  const size_t bytes = values.size() * sizeof(int);
  int *a = device<int>(100), *b = device<int>(100), *pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, bytes), cudaSuccess);
  for (cudaMemcpyKind kind : {cudaMemcpyHostToDevice, cudaMemcpyDefault}) {
    const bool automatic = kind == cudaMemcpyDefault;
    std::vector<int> back(100);
    EXPECT_EQ(cudaMemcpyAsync(a, values.data(), bytes, kind), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(b, a, bytes, automatic ? kind : cudaMemcpyDeviceToDevice), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(pinned, b, bytes, automatic ? kind : cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(back.data(), pinned, bytes, automatic ? kind : cudaMemcpyHostToHost), cudaSuccess);
    EXPECT_EQ(back, values);
    cudaMemset(a, 0, bytes);
    cudaMemset(b, 0, bytes);
  }
  EXPECT_EQ(cudaMemcpyAsync(b, a, bytes, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(pinned, a, bytes, cudaMemcpyHostToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(b, a, bytes, static_cast<cudaMemcpyKind>(7)), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemcpyAsync(a + 1, a, 8, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  expect_report({"overlap"});
  cudaFree(a);
  cudaFree(b);
  cudaFreeHost(pinned);
}

TEST_F(MemoryTest, CopiesRectangles) {
  std::vector<int> matrix(6 * 8);
  std::iota(matrix.begin(), matrix.end(), 0);
  int* d = device(matrix);
  std::vector<int> block(3 * 4);
  EXPECT_EQ(cudaMemcpy2DAsync(block.data(), 16, d + 8 + 2, 32, 16, 3, cudaMemcpyDeviceToHost), cudaSuccess);
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 4; ++column) EXPECT_EQ(block[row * 4 + column], (row + 1) * 8 + column + 2);
  }
  // Two column blocks of one matrix interleave, and do not overlap.
  EXPECT_EQ(cudaMemcpy2DAsync(d + 4, 32, d, 32, 16, 6, cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(host(d, 48)[8 + 4], 8);
  EXPECT_EQ(cudaMemcpy2DAsync(d + 2, 32, d, 32, 16, 6, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  expect_report({"overlap"});
  EXPECT_EQ(cudaMemcpy2DAsync(d, 8, block.data(), 16, 16, 1, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
  cudaFree(d);
}

TEST_F(MemoryTest, FullDeviceRefusesAndStaysUsable) {
  cuda_host::Settings settings;
  settings.memory = size_t{16} << 20;
  start(settings);
  char *large = nullptr, *small = device<char>(size_t{8} << 20);
  EXPECT_EQ(cudaMalloc(&large, size_t{12} << 20), cudaErrorMemoryAllocation);
  EXPECT_EQ(large, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(total, size_t{16} << 20);
  EXPECT_EQ(free, size_t{8} << 20);
  cudaFree(small);
  large = device<char>(size_t{12} << 20);
  EXPECT_EQ(cudaMemset(large, 0, size_t{12} << 20), cudaSuccess);
  cudaFree(large);
}

TEST_F(MemoryTest, LeaksAreReported) {
  device<float>(3);
  cuda_host::configure(cuda_host::Settings{});
  expect_report({"leak: allocation #1 of 12 bytes on device 0"});
  cuda_host::Settings settings;
  settings.report_leaks = false;
  start(settings);
  device<float>(3);
}

TEST_F(MemoryTest, PointersKnowTheirMemory) {
  float local = 0, *d = device<float>(2), *pinned = nullptr;
  ASSERT_EQ(cudaHostAlloc(&pinned, 8, cudaHostAllocPortable), cudaSuccess);
  cudaPointerAttributes attributes{};
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, d + 1), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 0);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, pinned), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, &local), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  cudaFree(d);
  cudaFreeHost(pinned);
}

TEST_F(MemoryTest, ManyAllocationsReuseTheirPlaces) {
  for (int round = 0; round < 20; ++round) {
    std::vector<char*> pointers;
    for (size_t i = 1; i <= 200; ++i) pointers.push_back(device<char>(i * 37));
    for (size_t i = 0; i < pointers.size(); i += 2) cudaFree(pointers[i]);
    for (size_t i = 1; i < pointers.size(); i += 2) cudaFree(pointers[i]);
  }
  EXPECT_EQ(cuda_host::live_allocations(), 0U);
}

// Arrays of whole pages and a part of one; how an allocation lies in its pages may add one to each.
TEST_F(MemoryTest, ATrafficMeterCountsEachPageOnceForAnOperation) {
  constexpr int kCount = 10000;
  constexpr size_t kPage = 4096, kBytes = kCount * sizeof(float), kMost = (kBytes / kPage + 2) * kPage;
  float *from = device<float>(std::vector<float>(kCount, 1.0F)), *to = device<float>(kCount);
  const auto launch = [&](auto kernel, auto... arguments) {
    const cuda_host::TrafficMeter meter;
    cuda_host::launch_flat(kernel, dim3(1), dim3(32), 0, nullptr, arguments...);
    return std::pair(meter.read(), meter.written());
  };
  const auto is_all = testing::AllOf(testing::Ge(kBytes), testing::Le(kMost));
  EXPECT_THAT(launch(copy_values, static_cast<const float*>(from), to, kCount), testing::Pair(is_all, is_all));
  EXPECT_THAT(launch(double_values, to, kCount), testing::Pair(is_all, is_all));
  EXPECT_EQ(host(to, kCount), std::vector<float>(kCount, 2.0F));
  {
    const cuda_host::TrafficMeter meter;
    EXPECT_EQ(cudaMemset(to, 0, kBytes), cudaSuccess);
    EXPECT_EQ(meter.read(), 0U);
    EXPECT_THAT(meter.written(), is_all);
    EXPECT_EQ(cudaMemset(to, 0, kBytes), cudaSuccess);
    EXPECT_THAT(meter.written(), testing::AllOf(testing::Ge(2 * kBytes), testing::Le(2 * kMost)));
    EXPECT_THROW(cuda_host::TrafficMeter(), std::logic_error);
  }
  EXPECT_EQ(host(to, kCount), std::vector<float>(kCount, 0.0F));
  cudaFree(from);
  cudaFree(to);
}

}  // namespace
