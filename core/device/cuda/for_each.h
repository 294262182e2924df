// The GPU's executors behind core/device/for_each.h. Included by it, in translation units that are device code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/error.h"
#include "core/base/math.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.h"
#include "core/device/cuda/queue.h"

namespace muonp::core::cuda {

inline constexpr int kThreads = 256, kWarp = 32, kWarps = kThreads / kWarp;
inline constexpr int kBlocks = 4;                   // at least, on a multiprocessor; without saying so ptxas spills for 8
inline constexpr int kBlocksPerMultiprocessor = 8;  // of kThreads: 2048 threads are what a multiprocessor holds
inline constexpr std::int64_t kWarpRow = 1024;      // columns up to which a row is a warp's, not a block's

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }  // one instruction; of a NaN the other one
};

// Every lane gets the result, with the same rounding.
template <class T, class Op>
__device__ T reduce_warp(T value, const Op& op) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value = op(value, __shfl_xor_sync(kAllLanes, value, distance));
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
  // A thread holds kPacks packs of 16 bytes at a time, 16 elements, so that a long row needs few barriers and no register is
  // spilled: what is stored over, all threads have read before.
  template <class T, class L, class G>
  __device__ void narrow(L* data, const G& g) const {
    constexpr int kPack = 16 / sizeof(L), kPacks = sizeof(L);
    const bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
    for (std::int64_t begin = 0; begin < cols; begin += threads * kPack * kPacks) {
      Values<T, kPack> values[kPacks];
      const auto first = [&](int p) { return begin + (p * threads + Self::number()) * kPack; };
      for (int p = 0; p < kPacks; ++p) {
        const std::int64_t c = first(p);
        Values<L, kPack> x{};
        load_some(data + c, cols - c, aligned, x);
        for (int i = 0; i < kPack; ++i) values[p].at[i] = g(c + i, x.at[i]);
      }
      Self::sync();
      for (int p = 0; p < kPacks; ++p)
        store_some(reinterpret_cast<T*>(data) + first(p), cols - first(p), aligned, values[p]);
    }
    Self::sync();
  }
  template <class Rows>
  __device__ void add_rows(float* out, bool add, std::int64_t n, const Rows& rows) const {
    using P = decltype(rows(std::int64_t{}));
    constexpr int kPack = kPackOf<P, float*>;
    if (cols % kPack == 0 && is_aligned(out) && (n == 0 || is_aligned(rows(0), out)))
      add_packs<kPack, P>(out, add, n, rows);
    else
      add_columns(out, add, n, rows);
  }
  // log Σ exp(x) in one pass: a thread's sum is relative to the highest value that it has met.
  template <class T>
  __device__ float log_sum_exp(const T* x) const {
    float highest = -INFINITY, sum = 0;
    over(
        [&](T element) {
          const float value = float(element);
          if (value > highest) {
            sum *= math::exp(highest - value);
            highest = value;
          }
          sum += math::exp(value - highest);
        },
        x);
    const float of_all = Self::reduce(highest, Max());
    // A thread without a value has the sum 0 and no highest one.
    return of_all + math::log(Self::reduce(sum == 0 ? 0.0f : sum * math::exp(highest - of_all), Sum()));
  }

 private:
  template <int n, class P, class Rows>
  __device__ void add_packs(float* out, bool add, std::int64_t count, const Rows& rows) const {
    MUONP_ONE_PACK
    for (std::int64_t c = static_cast<std::int64_t>(Self::number()) * n; c < cols; c += threads * n) {
      Values<float, n> total{};
      if (add) total = Pack<const float*, n>(out, c).values;
      for (std::int64_t i = 0; i < count; ++i) {
        const Pack<P, n> more(rows(i), c);
        for (int k = 0; k < n; ++k) total.at[k] += float(more.values.at[k]);
      }
      store_some(out + c, n, true, total);
    }
  }
  template <class Rows>
  __device__ void add_columns(float* out, bool add, std::int64_t count, const Rows& rows) const {
    MUONP_ONE_PACK
    for (std::int64_t c = Self::number(); c < cols; c += threads) {
      float total = add ? out[c] : 0.0f;
      MUONP_ONE_PACK
      for (std::int64_t i = 0; i < count; ++i) total += float(rows(i)[c]);
      out[c] = total;
    }
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
  launch_flat(&for_each_kernel<F>, grid_for(queue, (n + kThreads - 1) / kThreads), dim3(kThreads), stream_of(queue), n, f);
}

template <class F>
void for_each_row(Queue& queue, std::int64_t rows, std::int64_t cols, const F& f) {
  if (rows <= 0) return;
  if (cols <= kWarpRow)
    launch(&warp_row_kernel<F>, grid_for(queue, (rows + kWarps - 1) / kWarps), dim3(kThreads), 0, stream_of(queue), rows,
           cols, f);
  else
    launch(&block_row_kernel<F>, grid_for(queue, rows), dim3(kThreads), 0, stream_of(queue), rows, cols, f);
}

// ---- sums of columns: of a chunk of rows each, then over the chunks, in an order that the shape alone decides ----

// The elements of a pack of the arrays that f.row() hands out.
struct PackOfRow {
  template <class G, class... P>
  __host__ __device__ std::integral_constant<int, kPackOf<P...>> operator()(const G&, P...) const {
    return {};
  }
};
template <class F>
inline constexpr int kRowPack = decltype(std::declval<const F&>().row(std::int64_t{}, PackOfRow()))::value;

// Can a row be read in packs? Where rows 0 and 1 can, all can: rows lie equally far apart.
struct IsRowAligned {
  template <class G, class... P>
  bool operator()(const G&, P... arrays) const {
    return is_aligned(arrays...);
  }
};

template <int pack, std::size_t n, class G, class... Packs>
__device__ void add_to_columns(const G& g, float (&totals)[n][pack], const Packs&... packs) {
  [&]<std::size_t... k>(std::index_sequence<k...>) {
    for (int i = 0; i < pack; ++i) g(packs.values.at[i]..., totals[k][i]...);
  }
  (std::make_index_sequence<n>());
}

template <std::size_t n, class G, class... P>
__device__ void add_to_columns(const G& g, float (&totals)[n][1], std::int64_t column, P... arrays) {
  [&]<std::size_t... k>(std::index_sequence<k...>) { g(arrays[column]..., totals[k][0]...); }
  (std::make_index_sequence<n>());
}

// A block takes kWarp packs of columns and a chunk of rows. Its warps take every kWarps-th row, and are added in the
// order of warps. partials: [chunks, kSums, cols].
template <int pack, class F>
__global__ void __launch_bounds__(kThreads, kBlocks)
    column_chunks_kernel(std::int64_t rows, std::int64_t cols, std::int64_t chunk, float* partials, F f) {
  constexpr int kColumns = kWarp * pack;
  MUONP_SHARED float of_warp[kWarps][F::kSums][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kColumns, first = tile + lane * pack;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * chunk;
  const std::int64_t end = begin + chunk < rows ? begin + chunk : rows;
  float totals[F::kSums][pack] = {};
  if (first < cols)
    for (std::int64_t r = begin + warp; r < end; r += kWarps)
      f.row(r, [&](const auto& g, auto... arrays) {
        if constexpr (pack == 1)
          add_to_columns(g, totals, first, arrays...);
        else
          add_to_columns(g, totals, Pack<decltype(arrays), pack>(arrays, first)...);
      });
  for (int k = 0; k < F::kSums; ++k)
    for (int i = 0; i < pack; ++i) of_warp[warp][k][lane * pack + i] = totals[k][i];
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < F::kSums * kColumns; i += kThreads) {
    const int k = i / kColumns, c = i % kColumns;
    if (tile + c >= cols) continue;
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += of_warp[w][k][c];
    partials[(blockIdx.y * F::kSums + k) * cols + tile + c] = total;
  }
}

// One of the sums of every chunk. A block takes 32 columns; its warps take every kWarps-th chunk, and are added in the order
// of warps. Chunks lie `stride` floats apart.
inline __global__ void __launch_bounds__(kThreads, kBlocks)
    add_chunks_kernel(std::int64_t chunks, std::int64_t cols, const float* partials, std::int64_t stride, ColumnTarget to) {
  MUONP_SHARED float of_warp[kWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  float total = 0;
  if (c < cols)
    for (std::int64_t chunk = warp; chunk < chunks; chunk += kWarps) total += partials[chunk * stride + c];
  of_warp[warp][lane] = total;
  __syncthreads();
  if (warp > 0 || c >= cols) return;
  for (int w = 1; w < kWarps; ++w) total += of_warp[w][lane];
  to.out[c] = to.add ? to.out[c] + total : total;
}

template <class F>
void column_sums(Queue& queue, std::int64_t rows, std::int64_t cols, const ColumnTargets<F::kSums>& targets, const F& f) {
  if (cols <= 0) return;
  constexpr int kPack = kRowPack<F>;
  const bool packed = cols % kPack == 0 && (rows == 0 || f.row(0, IsRowAligned())) && (rows < 2 || f.row(1, IsRowAligned()));
  const std::int64_t columns = kWarp * (packed ? kPack : 1), tiles = (cols + columns - 1) / columns;
  // As many blocks as fit at once, and at least two rows for each warp.
  const std::int64_t most = std::max<std::int64_t>(1, multiprocessors_of(queue) * kBlocks / tiles);
  const std::int64_t chunks = std::clamp<std::int64_t>(rows / (2 * kWarps), 1, most), chunk = (rows + chunks - 1) / chunks;
  auto* partials = static_cast<float*>(scratch_of(queue, chunks * F::kSums * cols * 4));
  launch(packed ? &column_chunks_kernel<kPack, F> : &column_chunks_kernel<1, F>,
         dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(chunks)), dim3(kThreads), 0, stream_of(queue), rows, cols,
         chunk, partials, f);
  for (int k = 0; k < F::kSums; ++k)
    launch(&add_chunks_kernel, dim3(static_cast<unsigned>((cols + kWarp - 1) / kWarp)), dim3(kThreads), 0, stream_of(queue),
           chunks, cols, partials + k * cols, F::kSums * cols, targets.of[k]);
}

}  // namespace muonp::core::cuda
