// ldmatrix, mma and cp.async against the layouts that the PTX ISA gives.
#include <array>
#include <bit>
#include <cmath>

#include "cuda_host_fixture.h"

namespace {

uint16_t bfloat16_of(float value) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16); }

// Matrix m, row r, column c holds 64 m + 8 r + c.
__global__ void load(uint32_t* out, bool transposed) {
  auto* shared = static_cast<uint16_t*>(cuda_host::dynamic_shared());
  for (unsigned i = threadIdx.x; i < 256; i += 32) shared[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t got[4];
  cuda_host::load_matrices(shared + 8 * threadIdx.x, transposed, got);
  for (unsigned m = 0; m < 4; ++m) out[4 * threadIdx.x + m] = got[m];
}

// Registers as the PTX ISA lays them out, of small integers: A(i, k) = i - k, B(k, j) = 2 j + k % 3, C = 100.
__global__ void multiply(float* out) {
  const unsigned lane = threadIdx.x, r = lane / 4, q = lane % 4 * 2;
  const auto a = [](unsigned i, unsigned k) {
    const auto at = [&](unsigned column) { return bfloat16_of(static_cast<float>(i) - static_cast<float>(column)); };
    return uint32_t{at(k + 1)} << 16 | at(k);
  };
  const auto b = [](unsigned k, unsigned j) {
    const auto at = [&](unsigned row) { return bfloat16_of(static_cast<float>(2 * j + row % 3)); };
    return uint32_t{at(k + 1)} << 16 | at(k);
  };
  const uint32_t left[4] = {a(r, q), a(r + 8, q), a(r, q + 8), a(r + 8, q + 8)};
  float c[4] = {100, 100, 100, 100};
  cuda_host::multiply_add(left, b(q, r), b(q + 8, r), c);
  for (unsigned e = 0; e < 4; ++e) out[(r + e / 2 * 8) * 8 + q + e % 2] = c[e];
}

// Of rows of 16 bytes: what is in shared memory before the wait, after it, and where nothing was to be read.
__global__ void copy(const float* from, float* out) {
  auto* shared = static_cast<float*>(cuda_host::dynamic_shared());
  const unsigned i = 4 * threadIdx.x;
  cuda_host::begin_copy(shared + i, from + i, threadIdx.x != 31);
  out[2 * threadIdx.x] = shared[i];
  cuda_host::wait_for_copies();
  out[2 * threadIdx.x + 1] = shared[i + 3];
}

__global__ void multiply_in_one_branch() {
  float c[4] = {};
  if (threadIdx.x != 7) cuda_host::multiply_add({0, 0, 0, 0}, 0, 0, c);
}
__global__ void load_from(std::ptrdiff_t bytes) {  // refused before the lanes meet
  uint32_t got[4];
  cuda_host::load_matrices(static_cast<char*>(cuda_host::dynamic_shared()) + bytes, false, got);
}
__global__ void copy_without_wait(const float* from) { cuda_host::begin_copy(cuda_host::dynamic_shared(), from, true); }
__global__ void copy_from_between(const char* from) {
  cuda_host::begin_copy(cuda_host::dynamic_shared(), from + 8, true);
  cuda_host::wait_for_copies();
}

using TensorCoresTest = CudaHost;

TEST_F(TensorCoresTest, LoadsFourMatrices) {
  auto* out = device<uint32_t>(128);
  for (const bool transposed : {false, true}) {
    cuda_host::launch(load, dim3(1), dim3(32), 512, nullptr, out, transposed);
    const auto got = host(out, 128);
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned m = 0; m < 4; ++m) {
        const unsigned row = lane / 4, column = lane % 4 * 2, step = transposed ? 8 : 1;
        const unsigned first = 64 * m + (transposed ? 8 * column + row : 8 * row + column);
        EXPECT_EQ(got[4 * lane + m], (first + step) << 16 | first) << "lane " << lane << ", matrix " << m;
      }
  }
  cudaFree(out);
}

TEST_F(TensorCoresTest, MultipliesExactly) {
  auto* out = device<float>(128);
  cuda_host::launch(multiply, dim3(1), dim3(32), 0, nullptr, out);
  const auto got = host(out, 128);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      int sum = 100;
      for (int k = 0; k < 16; ++k) sum += (i - k) * (2 * j + k % 3);
      EXPECT_EQ(got[static_cast<size_t>(8 * i + j)], static_cast<float>(sum)) << i << ", " << j;
    }
  cudaFree(out);
}

TEST_F(TensorCoresTest, CopiesArriveWhenTheyAreWaitedFor) {
  std::vector<float> values(128);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  float *from = device(values), *out = device<float>(64);
  cuda_host::launch(copy, dim3(1), dim3(32), 512, nullptr, from, out);
  const auto got = host(out, 64);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_TRUE(std::isnan(got[2 * i]));
    EXPECT_EQ(got[2 * i + 1], i == 31 ? 0.0F : static_cast<float>(4 * i + 3));
  }
  cudaFree(from);
  cudaFree(out);
}

TEST_F(TensorCoresTest, WhatTheDeviceForbidsIsReported) {
  cuda_host::launch(multiply_in_one_branch, dim3(1), dim3(32), 0, nullptr);
  expect_report({"a lane of the mask is missing", "waits at mma", "thread 7 has returned"});
  cuda_host::launch(load_from, dim3(1), dim3(1), 512, nullptr, std::ptrdiff_t{8});
  expect_report({"ldmatrix", "is no multiple of 16 bytes"});
  cuda_host::launch(load_from, dim3(1), dim3(1), 512, nullptr, std::ptrdiff_t{512});
  expect_report({"ldmatrix", "is not in the block's dynamic shared memory"});
  float* from = device<float>(8);
  cuda_host::launch(copy_without_wait, dim3(1), dim3(1), 512, nullptr, from);
  expect_report({"returned with copies to shared memory on their way"});
  cuda_host::launch(copy_from_between, dim3(1), dim3(1), 512, nullptr, reinterpret_cast<const char*>(from));
  expect_report({"cp.async", "is no multiple of 16 bytes"});
  cudaFree(from);
}

}  // namespace
