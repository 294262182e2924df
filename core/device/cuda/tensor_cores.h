// What a warp's 32 lanes do together on the tensor cores, and how rows get there: instructions that C++ has no word for
// (PTX ISA 8.0, sections "mma.m16n8k16", "ldmatrix" and "cp.async"; from compute capability 8.0 on). bfloat16, sums in
// float32. The stand-in for a GPU has each as a function that its lanes must reach together (tests/cuda_host). Device code.
#pragma once

#include <cstdint>

#include "core/base/dtype.h"
#include "core/device/cuda/launch.h"

namespace muonp::core::cuda {

// Where a lane's elements of a matrix stand: the row (of the first 8, and again of the next 8) and the first of two
// neighbouring columns (of the first 8).
__device__ inline int lane_of_warp() { return static_cast<int>(threadIdx.x) % 32; }
__device__ inline int lane_row() { return lane_of_warp() / 4; }
__device__ inline int lane_column() { return lane_of_warp() % 4 * 2; }

// Four matrices of 8 × 8 elements from shared memory. Lane l says where the 16 bytes of row l % 8 of matrix l / 8 are, and
// gets of each matrix two elements: of lane_row(), columns lane_column() and the next; transposed: of column lane_row(),
// rows lane_column() and the next.
template <bool transposed>
__device__ void load_matrices(const bfloat16* row, std::uint32_t (&to)[4]) {
#ifdef MUONP_CUDA_HOST
  cuda_host::load_matrices(row, transposed, to);
#else
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
#endif
}

// C + A·B for A of 16 × 16, B of 16 × 8, C of 16 × 8. a: rows 0-7 and 8-15 of the first 8 columns, then of the others; b0,
// b1: the first and the last 8 rows of B, transposed; c: two elements of rows 0-7, two of rows 8-15.
__device__ inline void multiply_add(const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, float (&c)[4]) {
#ifdef MUONP_CUDA_HOST
  cuda_host::multiply_add(a, b0, b1, c);
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Two elements as a register holds them, each rounded to nearest.
__device__ inline std::uint32_t pair_of(float first, float second) {
#ifdef __CUDA_ARCH__
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return static_cast<std::uint32_t>(bfloat16(second).bits) << 16 | bfloat16(first).bits;
#endif
}

// 16 bytes from global to shared memory on their way while the thread goes on; zeros where `there` is false.
__device__ inline void begin_copy(void* shared, const void* global, bool there) {
#ifdef MUONP_CUDA_HOST
  cuda_host::begin_copy(shared, global, there);
#else
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(there ? 16 : 0)
      : "memory");
#endif
}

// Until this thread's copies are there; others see them after a barrier.
__device__ inline void wait_for_copies() {
#ifdef MUONP_CUDA_HOST
  cuda_host::wait_for_copies();
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// 2^x, by the GPU's instruction (2 ulp; 0 below 2^-126).
__device__ inline float power_of_two(float x) {
#ifdef __CUDA_ARCH__
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
#else
  return x < -126 ? 0.0f : std::exp2(x);
#endif
}

}  // namespace muonp::core::cuda
