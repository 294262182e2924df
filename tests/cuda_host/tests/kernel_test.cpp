// Blocks, barriers, warps and launch limits.
#include <numeric>

#include "cuda_host_fixture.h"

namespace {

constexpr unsigned kAll = 0xffffffffU;

__global__ void add(const float* a, const float* b, float* sum, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) sum[i] = a[i] + b[i];
}

__global__ void sum_in_shared_memory(const float* values, float* sums) {
  __shared__ float partial[256];
  const unsigned i = threadIdx.x;
  partial[i] = values[blockIdx.x * blockDim.x + i];
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (i < half) partial[i] += partial[i + half];
    __syncthreads();
  }
  if (i == 0) sums[blockIdx.x] = partial[0];
}

__global__ void sum_in_dynamic_memory(const double* values, double* sum) {
  auto* partial = static_cast<double*>(cuda_host::dynamic_shared());
  partial[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned i = 1; i < blockDim.x; ++i) partial[0] += partial[i];
  *sum = partial[0];
}

template <class T>
__global__ void sum_by_shuffles(const T* values, T* down, T* exchanged) {
  T a = values[threadIdx.x], b = a;
  for (unsigned delta = 16; delta > 0; delta /= 2) a += __shfl_down_sync(kAll, a, delta);
  for (int mask = 16; mask > 0; mask /= 2) b += __shfl_xor_sync(kAll, b, mask);
  if (threadIdx.x % 32 == 0) down[threadIdx.x / 32] = a;
  exchanged[threadIdx.x] = b;
}

__global__ void all_shuffles(int* values) {
  const int lane = static_cast<int>(threadIdx.x);
  values[lane] = __shfl_sync(kAll, lane, 3, 8);
  values[32 + lane] = __shfl_up_sync(kAll, lane, 2, 16);
  values[64 + lane] = __shfl_down_sync(kAll, lane, 2, 16);
  values[96 + lane] = __shfl_xor_sync(kAll, lane, 1);
  values[128 + lane] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  values[160 + lane] = __any_sync(kAll, lane == 31);
  values[192 + lane] = __all_sync(kAll, lane < 31);
  if (lane < 16) values[224 + lane] = __shfl_xor_sync(0xffffU, lane, 8);
}

__global__ void indices(unsigned* seen) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  atomicAdd(&seen[block * blockDim.x * blockDim.y * blockDim.z + thread], 1U);
}

// Two sums one after the other through the same shared memory, as core/device/cuda/for_each.h makes them.
template <bool kSecondBarrier>
__global__ void two_sums(const float* values, float* sums) {
  __shared__ float of_warp[8];
  for (unsigned i = threadIdx.x; i < 512; i += 256) {
    float sum = values[i];
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAll, sum, mask);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (const float part : of_warp) sum += part;
    if (kSecondBarrier) __syncthreads();
    sums[i] = sum;
  }
}

// Each lane reads what the lane below wrote.
template <bool kBarrier>
__global__ void take_from_below(int* out) {
  __shared__ int values[32];
  const unsigned lane = threadIdx.x;
  values[lane] = -1;
  __syncwarp(kAll);
  values[lane] = static_cast<int>(lane);
  if (kBarrier) __syncwarp(kAll);
  out[lane] = values[lane == 0 ? 0 : lane - 1];
}

__global__ void record_order(unsigned* count, unsigned* order) {
  for (unsigned phase = 0; phase < 2; ++phase) {
    order[blockDim.x * (2 * blockIdx.x + phase) + atomicAdd(count, 1U) % blockDim.x] = threadIdx.x;
    __syncthreads();
  }
}

__global__ void barrier_in_one_branch() {
  if (threadIdx.x < 16) __syncthreads();
}
__global__ void barrier_in_two_branches() {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void shuffle_in_one_branch(int* out) {
  if (threadIdx.x != 5) out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);
}
__global__ void shuffle_outside_own_mask(int* out) { *out = __shfl_sync(0xffU, 1, 0); }
__global__ void shuffle_from_outside_the_mask(int* out) {
  if (threadIdx.x < 16) *out = __shfl_sync(0xffffU, 1, 20);
}
__global__ void write_past_shared_memory() { static_cast<float*>(cuda_host::dynamic_shared())[16] = 1; }
__global__ void nothing() {}
__global__ void take_pointer(const float*) {}

using KernelTest = CudaHost;

TEST_F(KernelTest, AddsInFlatAndFiberLaunches) {
  constexpr int kCount = 1000;
  std::vector<float> a(kCount), b(kCount, 0.5F);
  std::iota(a.begin(), a.end(), 0.0F);
  float *da = device(a), *db = device(b), *sum = device<float>(kCount);
  for (bool flat : {false, true}) {
    cudaMemset(sum, 0, kCount * sizeof(float));
    if (flat) {
      cuda_host::launch_flat(add, dim3(8), dim3(128), 0, nullptr, da, db, sum, kCount);
    } else {
      cuda_host::launch(add, dim3(8), dim3(128), 0, nullptr, da, db, sum, kCount);
    }
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    const std::vector<float> result = host(sum, kCount);
    for (int i = 0; i < kCount; ++i) ASSERT_EQ(result[i], static_cast<float>(i) + 0.5F) << i;
  }
  for (float* p : {da, db, sum}) cudaFree(p);
}

TEST_F(KernelTest, SumsInSharedMemoryWithBarriers) {
  std::vector<float> values(3 * 256);
  std::iota(values.begin(), values.end(), 0.0F);
  float *in = device(values), *out = device<float>(3);
  cuda_host::launch(sum_in_shared_memory, dim3(3), dim3(256), 0, nullptr, in, out);
  const std::vector<float> sums = host(out, 3);
  for (int block = 0; block < 3; ++block) {
    EXPECT_EQ(sums[block], std::accumulate(values.begin() + block * 256, values.begin() + (block + 1) * 256, 0.0F));
  }
  cudaFree(in);
  cudaFree(out);
}

TEST_F(KernelTest, SumsInDynamicSharedMemoryAbove48KiB) {
  constexpr size_t kCount = 1024, kBytes = size_t{64} << 10;
  double *in = device(std::vector<double>(kCount, 2.0)), *out = device<double>(1);
  cuda_host::launch(sum_in_dynamic_memory, dim3(1), dim3(kCount), kBytes, nullptr, in, out);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  ASSERT_EQ(cudaFuncSetAttribute(sum_in_dynamic_memory, cudaFuncAttributeMaxDynamicSharedMemorySize, int{kBytes}),
            cudaSuccess);
  cuda_host::launch(sum_in_dynamic_memory, dim3(1), dim3(kCount), kBytes, nullptr, in, out);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(host(out, 1)[0], 2.0 * kCount);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, (227 << 10) + 1),
            cudaErrorInvalidValue);
  cudaFree(in);
  cudaFree(out);
}

template <class T>
class ShuffleTest : public CudaHost {};
using ShuffledTypes = testing::Types<float, double, int32_t, uint32_t, int64_t>;
TYPED_TEST_SUITE(ShuffleTest, ShuffledTypes);

TYPED_TEST(ShuffleTest, SumsAWarp) {
  std::vector<TypeParam> values(64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<TypeParam>(i * i);
  auto *in = this->device(values), *down = this->template device<TypeParam>(2);
  auto* exchanged = this->template device<TypeParam>(64);
  cuda_host::launch(sum_by_shuffles<TypeParam>, dim3(1), dim3(64), 0, nullptr, in, down, exchanged);
  const auto sums = this->host(down, 2), everywhere = this->host(exchanged, 64);
  for (size_t warp = 0; warp < 2; ++warp) {
    const auto expected = std::accumulate(values.begin() + warp * 32, values.begin() + (warp + 1) * 32, TypeParam{0});
    EXPECT_EQ(sums[warp], expected);
    for (size_t lane = 0; lane < 32; ++lane) EXPECT_EQ(everywhere[warp * 32 + lane], expected);
  }
  for (auto* p : {in, down, exchanged}) cudaFree(p);
}

TEST_F(KernelTest, ShufflesFollowTheirDefinitions) {
  int* out = device<int>(240);
  cuda_host::launch(all_shuffles, dim3(1), dim3(32), 0, nullptr, out);
  const std::vector<int> v = host(out, 240);
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(v[lane], lane / 8 * 8 + 3);
    EXPECT_EQ(v[32 + lane], lane % 16 < 2 ? lane : lane - 2);
    EXPECT_EQ(v[64 + lane], lane % 16 > 13 ? lane : lane + 2);
    EXPECT_EQ(v[96 + lane], lane ^ 1);
    EXPECT_EQ(static_cast<unsigned>(v[128 + lane]), 0x49249249U);
    EXPECT_EQ(v[160 + lane], 1);
    EXPECT_EQ(v[192 + lane], 0);
    if (lane < 16) {
      EXPECT_EQ(v[224 + lane], lane ^ 8);
    }
  }
  cudaFree(out);
}

TEST_F(KernelTest, EveryThreadOfEveryBlockRunsOnce) {
  constexpr size_t kCount = 2 * 3 * 4 * 5 * 6 * 7;
  unsigned* seen = device(std::vector<unsigned>(kCount, 0));
  cuda_host::launch(indices, dim3(2, 3, 4), dim3(5, 6, 7), 0, nullptr, seen);
  cuda_host::launch_flat(indices, dim3(2, 3, 4), dim3(5, 6, 7), 0, nullptr, seen);
  EXPECT_THAT(host(seen, kCount), testing::Each(2U));
  cudaFree(seen);
}

// In both modes, with each of a handful of seeds.
template <class F>
int seeds_where(const F& f) {
  int count = 0;
  for (const auto mode : {cuda_host::Mode::kInline, cuda_host::Mode::kAsync}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      cuda_host::Settings settings;
      settings.mode = mode;
      settings.seed = seed;
      cuda_host::configure(settings);
      count += f() ? 1 : 0;
    }
  }
  return count;
}

TEST_F(KernelTest, AMissingSecondBarrierOfAReductionGivesAWrongSum) {
  std::vector<float> values(512);
  std::iota(values.begin(), values.end(), 0.0F);
  std::vector<float> right(512, 255 * 256 / 2);
  std::fill(right.begin() + 256, right.end(), right[0] + 256 * 256);
  const auto wrong = [&](auto* kernel) {
    float *in = device(values), *out = device<float>(512);
    cuda_host::launch(kernel, dim3(1), dim3(256), 0, nullptr, in, out);
    const bool differs = host(out, 512) != right;
    cudaFree(in);
    cudaFree(out);
    return differs;
  };
  EXPECT_EQ(seeds_where([&] { return wrong(two_sums<true>); }), 0);
#ifndef __SANITIZE_THREAD__  // which names the race itself: cuda_host.races.missing_barrier
  EXPECT_EQ(seeds_where([&] { return wrong(two_sums<false>); }), 10);
#endif
}

TEST_F(KernelTest, AMissingBarrierOfAWarpGivesAWrongResultForSomeSeed) {
  std::vector<int> right(32);
  std::iota(right.begin() + 1, right.end(), 0);
  const auto wrong = [&](auto* kernel) {
    int* out = device<int>(32);
    cuda_host::launch(kernel, dim3(1), dim3(32), 0, nullptr, out);
    const bool differs = host(out, 32) != right;
    cudaFree(out);
    return differs;
  };
  EXPECT_EQ(seeds_where([&] { return wrong(take_from_below<true>); }), 0);
#ifndef __SANITIZE_THREAD__
  EXPECT_GT(seeds_where([&] { return wrong(take_from_below<false>); }), 0);
#endif
}

TEST_F(KernelTest, TheOrderOfThreadsDependsOnTheSeedTheBlockAndTheBarrier) {
  constexpr unsigned kThreads = 96;
  const auto orders = [&](uint64_t seed) {
    cuda_host::Settings settings;
    settings.seed = seed;
    start(settings);
    unsigned *count = device(std::vector<unsigned>{0}), *order = device<unsigned>(size_t{4} * kThreads);
    cuda_host::launch(record_order, dim3(2), dim3(kThreads), 0, nullptr, count, order);
    const std::vector<unsigned> all = host(order, size_t{4} * kThreads);
    cudaFree(count);
    cudaFree(order);
    std::vector<std::vector<unsigned>> parts;
    for (unsigned i = 0; i < 4; ++i) parts.emplace_back(all.begin() + i * kThreads, all.begin() + (i + 1) * kThreads);
    return parts;
  };
  std::vector<unsigned> in_turn(kThreads);
  std::iota(in_turn.begin(), in_turn.end(), 0U);
  EXPECT_EQ(orders(1)[0], in_turn);
  const auto two = orders(2), three = orders(3);
  EXPECT_EQ(two, orders(2));
  for (const auto& part : two) EXPECT_THAT(part, testing::UnorderedElementsAreArray(in_turn));
  EXPECT_NE(two[0], in_turn);
  EXPECT_NE(two[0], two[1]);
  EXPECT_NE(two[0], two[2]);
  EXPECT_NE(two[0], three[0]);
}

TEST_F(KernelTest, BarrierInDivergentCodeIsReported) {
  cuda_host::launch(barrier_in_one_branch, dim3(1), dim3(32), 0, nullptr);
  expect_report({"divergent barrier", "barrier_in_one_branch", "has returned", "kernel_test.cpp:"});
  cuda_host::launch(barrier_in_two_branches, dim3(1), dim3(32), 0, nullptr);
  expect_report({"divergent barrier", "barrier_in_two_branches", "thread 16"});
  cuda_host::launch(nothing, dim3(1), dim3(32), 0, nullptr);  // and the next kernel runs
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(KernelTest, ShuffleWithAMissingLaneIsReported) {
  int* out = device<int>(32);
  cuda_host::launch(shuffle_in_one_branch, dim3(1), dim3(32), 0, nullptr, out);
  expect_report({"a lane of the mask is missing", "shuffle_in_one_branch", "thread 5 has returned"});
  cuda_host::launch(shuffle_in_one_branch, dim3(1), dim3(4), 0, nullptr, out);
  expect_report({"thread 4 does not exist"});
  cuda_host::launch(shuffle_outside_own_mask, dim3(1), dim3(32), 0, nullptr, out);
  expect_report({"lane 8 is not in its own mask 0x000000ff"});
  cuda_host::launch(shuffle_from_outside_the_mask, dim3(1), dim3(32), 0, nullptr, out);
  expect_report({"lane 0 reads lane 20, which is not in the mask"});
  cudaFree(out);
}

TEST_F(KernelTest, BarrierInAFlatLaunchIsReported) {
  cuda_host::launch_flat(barrier_in_one_branch, dim3(1), dim3(1), 0, nullptr);
  expect_report({"launched as barrier-free", "barrier_in_one_branch"});
}

TEST_F(KernelTest, LaunchLimitsAreEnforced) {
  const auto launch = [](dim3 grid, dim3 block, size_t shared_bytes = 0) {
    cuda_host::launch(nothing, grid, block, shared_bytes, nullptr);
    return cudaGetLastError();
  };
  EXPECT_EQ(launch(dim3(1), dim3(1025)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1), dim3(32, 33)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1), dim3(1, 1, 65)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1), dim3(0)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(0), dim3(1)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1, 65536), dim3(1)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1, 1, 65536), dim3(1)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(0x80000000U), dim3(1)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1), dim3(1), (48 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(launch(dim3(65536), dim3(1, 1, 64)), cudaSuccess);
  EXPECT_EQ(launch(dim3(1), dim3(32, 32), 48 << 10), cudaSuccess);
}

TEST_F(KernelTest, WritePastSharedMemoryIsReported) {
  cuda_host::launch(write_past_shared_memory, dim3(1), dim3(1), 64, nullptr);
  expect_report({"past its 64 bytes of dynamic shared memory"});
}

TEST_F(KernelTest, WrongPointersAreReported) {
  const float local = 0;
  cuda_host::launch(take_pointer, dim3(1), dim3(1), 0, nullptr, &local);
  expect_report({"argument 0", "pageable host memory"});
  float* freed = device<float>(8);
  cudaFree(freed);
  cuda_host::launch(take_pointer, dim3(1), dim3(1), 0, nullptr, freed + 1);
  expect_report({"argument 0", "use after free: byte 4", "of 32 bytes on device 0"});
}

TEST_F(KernelTest, OccupancyFollowsTheLimits) {
  int blocks = 0;
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 256, 0), cudaSuccess);
  EXPECT_EQ(blocks, 8);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 32, 99 << 10), cudaSuccess);
  EXPECT_EQ(blocks, 2);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 2048, 0), cudaSuccess);
  EXPECT_EQ(blocks, 0);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 0, 0), cudaErrorInvalidValue);
}

}  // namespace
