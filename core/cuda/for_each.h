// The GPU's executors behind core/for_each.h. Included by it, in translation units that are device code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cuda/launch.h"
#include "core/cuda/queue.h"
#include "core/cuda/pack.h"
#include "core/error.h"

namespace muonp::core::cuda {

inline constexpr int kThreads = 256, kWarp = 32, kWarps = kThreads / kWarp;
inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kBlocks = 4;  // at least, on a multiprocessor; without saying so ptxas spills for 8
inline constexpr int kBlocksPerMultiprocessor = 8;  // of kThreads: 2048 threads are what a multiprocessor holds
inline constexpr std::int64_t kWarpRow = 1024;      // columns up to which a row is a warp's, not a block's

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};

// Every lane gets the result, with the same rounding.
template <class T, class Op>
__device__ T reduce_warp(T value, const Op& op) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = op(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

// A row that `threads` threads share. Self has their number() in [0, threads), sync() and reduce(value, op), which gives
// all of them the result.
template <class Self, int threads>
struct SharedRow {
  std::int64_t index;
  std::int64_t cols;

  template <class G>
  __device__ void each(const G& g) const {
    for (std::int64_t c = Self::number(); c < cols; c += threads) g(c);
  }
  template <class G>
  __device__ auto sum(const G& g) const {
    decltype(g(std::int64_t{})) total = 0;
    each([&](std::int64_t c) { total += g(c); });
    return Self::reduce(total, Sum());
  }
  template <class G>
  __device__ float max(const G& g) const {
    float best = -INFINITY;
    each([&](std::int64_t c) { best = Max()(best, g(c)); });
    return Self::reduce(best, Max());
  }
  template <class F, class... P>
  __device__ void over(const F& f, P... arrays) const {
    over_columns(cols, Self::number(), threads, f, arrays...);
  }
  template <class F, class A, class... P>
  __device__ auto sum(const F& f, A array, P... arrays) const {
    decltype(f(array[0], arrays[0]...)) total = 0;
    over([&](const auto&... x) { total += f(x...); }, array, arrays...);
    return Self::reduce(total, Sum());
  }
  template <class F, class A, class... P>
  __device__ float max(const F& f, A array, P... arrays) const {
    float best = -INFINITY;
    over([&](const auto&... x) { best = Max()(best, f(x...)); }, array, arrays...);
    return Self::reduce(best, Max());
  }
  __device__ Self part(std::int64_t n) const { return {{index, n}}; }
  template <class T, class G>
  __device__ void narrow(float* data, const G& g) const {
    for (std::int64_t begin = 0; begin < cols; begin += threads) {
      const std::int64_t c = begin + Self::number();
      const T value = c < cols ? g(c) : T(0.0f);
      Self::sync();  // what this stores over, all threads have read
      if (c < cols) reinterpret_cast<T*>(data)[c] = value;
    }
    Self::sync();
  }
};

struct WarpRow : SharedRow<WarpRow, kWarp> {
  __device__ static int number() { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ static void sync() { __syncwarp(kAllLanes); }
  template <class T, class Op>
  __device__ static T reduce(T value, const Op& op) {
    return reduce_warp(value, op);
  }
};

struct BlockRow : SharedRow<BlockRow, kThreads> {
  __device__ static int number() { return static_cast<int>(threadIdx.x); }
  __device__ static void sync() { __syncthreads(); }
  template <class T, class Op>
  __device__ static T reduce(T value, const Op& op) {
    MUONP_SHARED T of_warp[kWarps];
    value = reduce_warp(value, op);
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    if (WarpRow::number() == 0) of_warp[warp] = value;
    __syncthreads();
    value = of_warp[0];
    for (int w = 1; w < kWarps; ++w) value = op(value, of_warp[w]);
    __syncthreads();  // before the next reduction writes there
    return value;
  }
};

template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks) for_each_kernel(std::int64_t n, F f) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride) f(i);
}

template <class F, auto... members>
__device__ void for_each_pack(std::int64_t n, const F& f, std::int64_t thread, std::int64_t stride,
                              ElementArrays<members...>) {
  constexpr int kPack = kMemberPack<members...>;
  const std::int64_t packs = n / kPack;
  for (std::int64_t i = thread; i < packs; i += stride) {
    F local = f;
    MemberPacks<F, members...> registers(local, i * kPack);
    for (int k = 0; k < kPack; ++k) local(k);
    registers.store();
  }
  for (std::int64_t i = packs * kPack + thread; i < n; i += stride) f(i);
}

template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks) pack_kernel(std::int64_t n, F f) {
  for_each_pack(n, f, static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x,
                static_cast<std::int64_t>(gridDim.x) * kThreads, typename F::Elements());
}

template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks) warp_row_kernel(std::int64_t rows, std::int64_t cols, F f) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; r < rows; r += stride)
    f(WarpRow{{r, cols}});
}

template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks) block_row_kernel(std::int64_t rows, std::int64_t cols, F f) {
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) f(BlockRow{{r, cols}});
}

// Blocks for `work` blocks' worth, at most what the GPU holds at once: the rest is the kernel's loop.
inline dim3 grid_for(Queue& queue, std::int64_t work) {
  const std::int64_t most = static_cast<std::int64_t>(multiprocessors_of(queue)) * kBlocksPerMultiprocessor;
  return dim3(static_cast<unsigned>(std::min(work, most)));
}

template <class F, auto... members>
bool has_aligned(const F& f, ElementArrays<members...>) {
  return is_aligned(f.*members...);
}

template <auto... members>
std::int64_t packs_of(std::int64_t n, ElementArrays<members...>) {
  return (n + kMemberPack<members...> - 1) / kMemberPack<members...>;
}

template <class F>
void for_each(Queue& queue, std::int64_t n, const F& f) {
  if (n <= 0) return;
  if constexpr (requires { typename F::Elements; })
    if (has_aligned(f, typename F::Elements())) {
      const std::int64_t packs = packs_of(n, typename F::Elements());
      return launch_flat(&pack_kernel<F>, grid_for(queue, (packs + kThreads - 1) / kThreads), dim3(kThreads),
                         stream_of(queue), n, f);
    }
  launch_flat(&for_each_kernel<F>, grid_for(queue, (n + kThreads - 1) / kThreads), dim3(kThreads), stream_of(queue), n,
              f);
}

template <class F>
void for_each_row(Queue& queue, std::int64_t rows, std::int64_t cols, const F& f) {
  if (rows <= 0) return;
  if (cols <= kWarpRow)
    launch(&warp_row_kernel<F>, grid_for(queue, (rows + kWarps - 1) / kWarps), dim3(kThreads), 0, stream_of(queue),
           rows, cols, f);
  else
    launch(&block_row_kernel<F>, grid_for(queue, rows), dim3(kThreads), 0, stream_of(queue), rows, cols, f);
}

// A block takes 32 columns; its warps take every kWarps-th row, and are added in the order of warps.
template <class F>
__global__ void __launch_bounds__(kThreads, kBlocks)
    column_sums_kernel(std::int64_t rows, std::int64_t cols, float* out, bool add, F f) {
  MUONP_SHARED float partial[kWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  float total = 0;
  if (c < cols)
    for (std::int64_t r = warp; r < rows; r += kWarps) total += f(r, c);
  partial[warp][lane] = total;
  __syncthreads();
  if (warp > 0 || c >= cols) return;
  for (int w = 1; w < kWarps; ++w) total += partial[w][lane];
  out[c] = add ? out[c] + total : total;
}

template <class F>
void column_sums(Queue& queue, std::int64_t rows, std::int64_t cols, float* out, bool add, const F& f) {
  if (cols <= 0) return;
  const std::int64_t blocks = (cols + kWarp - 1) / kWarp;
  launch(&column_sums_kernel<F>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream_of(queue), rows, cols,
         out, add, f);
}

}  // namespace muonp::core::cuda
