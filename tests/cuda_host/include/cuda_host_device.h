// What kernels use: thread indices, barriers, warp collectives, atomics. Included by cuda_runtime.h.
//
// A kernel's threads are fibers of one host thread, so `__shared__` variables are that thread's own statics.
// Barriers and collectives are told apart by the place of the call (file, line, column). Reported: a barrier
// that a thread of the block does not reach or reaches elsewhere, a collective that a lane named in the mask
// does not reach with the same mask, a lane that is not in its own mask, a shuffle from a lane outside the
// mask, and any of them in a kernel launched as barrier-free. As documented, collectives order no memory
// accesses; __syncwarp and __syncthreads do.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "vector_types.h"

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __align__(bytes) alignas(bytes)

inline constexpr int warpSize = 32;
// Of the thread that runs now. constinit, so that other files read them without an initialisation wrapper.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;

namespace cuda_host {

using Site = std::source_location;

enum class Shuffle { kIndex, kUp, kDown, kXor };

void block_barrier(const Site& site);
void warp_barrier(unsigned mask, const Site& site);
// The value of the lane that `kind` and `argument` select; values travel as bit patterns.
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t bits, int argument, int width, const Site& site);
// The lanes of `mask` whose predicate holds.
unsigned ballot(unsigned mask, bool predicate, const Site& site);
// The tensor cores' instructions for bfloat16, as core/device/cuda/tensor_cores.h has them: ldmatrix (.x4), mma.m16n8k16 and
// cp.async (16 bytes). All 32 lanes reach the first two together. Refused: what does not lie in the block's dynamic shared
// memory, or not at 16 bytes. A copy's bytes are NaN until its thread waits, and are read from global memory then.
void multiply_add(const uint32_t (&a)[4], uint32_t b0, uint32_t b1, float (&c)[4], const Site& site = Site::current());

// A copy to shared memory that its thread has not waited for; of zeros where `global` is null.
struct PendingCopy {
  void* shared;
  const void* global;
};
// Parts of the functions below, which read and write shared memory themselves, where ThreadSanitizer sees it.
bool lies_in_shared(const char* what, const void* address, const Site& site);
void exchange_rows(const uint16_t (&row)[8], bool transposed, uint32_t (&to)[4], const Site& site);
void remember_copy(const PendingCopy& copy, const Site& site);
bool take_copy(PendingCopy& copy, const Site& site);  // false: there is none

inline void load_matrices(const void* row, bool transposed, uint32_t (&to)[4], const Site& site = Site::current()) {
  if (!lies_in_shared("ldmatrix", row, site)) return;
  uint16_t mine[8];
  std::memcpy(mine, row, sizeof mine);
  exchange_rows(mine, transposed, to, site);
}
inline void begin_copy(void* shared, const void* global, bool there, const Site& site = Site::current()) {
  if (!lies_in_shared("cp.async", shared, site)) return;
  std::memset(shared, 0xff, 16);
  remember_copy({shared, there ? global : nullptr}, site);
}
inline void wait_for_copies(const Site& site = Site::current()) {
  for (PendingCopy copy; take_copy(copy, site);)
    copy.global ? static_cast<void>(std::memcpy(copy.shared, copy.global, 16))
                : static_cast<void>(std::memset(copy.shared, 0, 16));
}
// Base of the block's dynamic shared memory, 256-byte aligned; filled with NaN before each block.
void* dynamic_shared();

template <class T>
T shuffle_value(Shuffle kind, unsigned mask, T value, int argument, int width, const Site& site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 32- or 64-bit numbers");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(kind, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_host

inline void __syncthreads(const cuda_host::Site& site = cuda_host::Site::current()) { cuda_host::block_barrier(site); }
inline void __syncwarp(unsigned mask = 0xffffffffU, const cuda_host::Site& site = cuda_host::Site::current()) {
  cuda_host::warp_barrier(mask, site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::shuffle_value(cuda_host::Shuffle::kIndex, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::shuffle_value(cuda_host::Shuffle::kUp, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::shuffle_value(cuda_host::Shuffle::kDown, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::shuffle_value(cuda_host::Shuffle::kXor, mask, value, lane_mask, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const cuda_host::Site& site = cuda_host::Site::current()) {
  return cuda_host::ballot(mask, predicate != 0, site) == mask;
}

inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { __threadfence(); }

// Relaxed, as on the device.
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(compare, value, std::memory_order_relaxed);
  return compare;
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> target(*address);
  T seen = target.load(std::memory_order_relaxed);
  while (seen < value && !target.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
  return seen;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline float rsqrtf(float value) { return 1.0F / std::sqrt(value); }
