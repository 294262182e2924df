// The two executors that run every elementwise and row-wise kernel, on the CPU and on the GPU. A kernel is a functor,
// written once: a struct that holds its arguments by value, with operator() marked MUONP_HD.
//
//   for_each(queue, n, f)                 f(i) for i in [0, n), in any order, at the same time
//   for_each_row(queue, rows, cols, f)    f(row) for each row, whose operator() begins with MUONP_ROW_KERNEL.
//                                         row.index; row.cols; row.sum(g), row.max(g) reduce g(c) over the columns c
//                                         and give every caller the result; row.each(g) calls g(c);
//                                         row.over(f, x, y, ...) calls f(x[c], y[c], ...) for arrays that begin at
//                                         column 0 of the row, row.sum(f, x, ...) and row.max(f, x, ...) reduce it;
//                                         row.part(n) is the same row with n columns; row.narrow<T>(data, g)
//                                         overwrites the row `data` with the T values g(c, data[c]), no wider than it;
//                                         row.log_sum_exp(x) is log Σ exp(x[c]) of an array;
//                                         row.add_rows(out, add, n, rows) makes the float32 out[c] the sum, from i = 0
//                                         on, of rows(i)[c], i < n, or adds them to it; rows(i) are arrays that lie a
//                                         multiple of row.cols apart
//   column_sums(queue, rows, cols, targets, f)  of each column, F::kSums sums over the rows (below)
//
// A kernel may name the arrays that it touches at i only; a GPU moves 16 bytes of these, and of those of row.over(), sum()
// and max(), at a time where all are aligned. A const T* is read, a T* read and written, a Written<T> only written:
//   using Elements = core::ElementArrays<&Kernel::x, &Kernel::y>;
//
// On the GPU all threads of a warp or block run a row kernel, and each keeps to its own columns: what one row.each() wrote,
// another may read at the same column only; what row.over() wrote, nothing in that kernel may read. Outside sum, max, each
// and over, they all write the same value.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/base/math.h"
#include "core/device/device.h"

namespace muonp::core {

template <auto... members>
struct ElementArrays {};

template <class T>
struct Written {
  T* data;
  MUONP_HD T& operator[](std::int64_t i) const { return data[i]; }
};

// Where column_sums() leaves its sums of cols values each: written there, or added to what is there.
struct ColumnTarget {
  float* out;
  bool add;
};
template <int n>
struct ColumnTargets {
  ColumnTarget of[n];
};

}  // namespace muonp::core

#ifdef MUONP_DEVICE_CODE
#include "core/device/cuda/for_each.h"
#endif

// Begins the operator() of a row kernel, a template on R, the type of row, and row() of a kernel of column sums, a template
// on Use. They are compiled for the host and for the GPU on both sides, which nvcc would warn of.
#ifdef __CUDACC__
#define MUONP_ROW_KERNEL                              \
  _Pragma("nv_exec_check_disable") template <class R> \
  MUONP_HD
#define MUONP_COLUMN_KERNEL                             \
  _Pragma("nv_exec_check_disable") template <class Use> \
  MUONP_HD
#else
#define MUONP_ROW_KERNEL \
  template <class R>     \
  MUONP_HD
#define MUONP_COLUMN_KERNEL \
  template <class Use>      \
  MUONP_HD
#endif

namespace muonp::core {

inline constexpr std::int64_t kSerialBelow = 8192;  // elements: starting an OpenMP team costs more than it gains

struct Row {
  std::int64_t index;
  std::int64_t cols;

  // In the type that g returns.
  template <class G>
  auto sum(const G& g) const {
    decltype(g(std::int64_t{})) total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t c = 0; c < cols; ++c) total += g(c);
    return total;
  }
  template <class G>
  float max(const G& g) const {
    float best = -INFINITY;
#pragma omp simd reduction(max : best)
    for (std::int64_t c = 0; c < cols; ++c) {
      const float value = g(c);
      best = value > best ? value : best;
    }
    return best;
  }
  template <class G>
  void each(const G& g) const {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) g(c);
  }
  template <class F, class... P>
  void over(const F& f, P... arrays) const {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) f(arrays[c]...);
  }
  template <class F, class A, class... P>
  auto sum(const F& f, A array, P... arrays) const {
    return sum([=](std::int64_t c) { return f(array[c], arrays[c]...); });
  }
  template <class F, class A, class... P>
  float max(const F& f, A array, P... arrays) const {
    return max([=](std::int64_t c) { return f(array[c], arrays[c]...); });
  }
  template <class Rows>
  void add_rows(float* out, bool add, std::int64_t n, const Rows& rows) const {
    if (!add) each([=](std::int64_t c) { out[c] = 0; });
    for (std::int64_t i = 0; i < n; ++i) over([](auto more, float& total) { total += float(more); }, rows(i), out);
  }
  // Summed in blocks: beside a sum that has the largest term, most of a large vocabulary's are too small to change a float.
  template <class T>
  float log_sum_exp(const T* x) const {
    constexpr std::int64_t kBlock = 512;
    const float highest = max([](T value) { return float(value); }, x);
    double total = 0;
    for (std::int64_t c = 0; c < cols; c += kBlock)
      total += part(cols - c < kBlock ? cols - c : kBlock).sum([=](T v) { return math::exp(float(v) - highest); }, x + c);
    return highest + math::log(static_cast<float>(total));
  }
  Row part(std::int64_t n) const { return {index, n}; }
  template <class T, class L, class G>
  void narrow(L* data, const G& g) const {
    constexpr std::int64_t kBlock = 512;
    char* to = reinterpret_cast<char*>(data);
    T block[kBlock];
    T* b = block;
    for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
      const std::int64_t count = cols - begin < kBlock ? cols - begin : kBlock;
      const L* x = data + begin;
      part(count).each([=](std::int64_t c) { b[c] = g(begin + c, x[c]); });
      std::memcpy(to + begin * static_cast<std::int64_t>(sizeof(T)), block, static_cast<std::size_t>(count) * sizeof(T));
    }
  }
};

template <class F>
void for_each(Queue& queue, std::int64_t n, const F& f) {
  if (queue.kind() == DeviceKind::cuda) {
#ifdef MUONP_DEVICE_CODE
    return cuda::for_each(queue, n, f);
#else
    MUONP_ASSERT(false, "this kernel was not compiled for CUDA");
#endif
  }
#pragma omp parallel if (n >= kSerialBelow) num_threads(queue.threads())
  {
    const F local = f;  // what it holds can then stay in registers, without which the loop is not vectorised
#pragma omp for simd schedule(static)
    for (std::int64_t i = 0; i < n; ++i) local(i);
  }
}

// The CPU's for_each_row, for kernels that are the CPU's alone.
template <class F>
void for_each_host_row(Queue& queue, std::int64_t rows, std::int64_t cols, const F& f) {
#pragma omp parallel if (rows * cols >= kSerialBelow) num_threads(queue.threads())
  {
    const F local = f;
#pragma omp for schedule(static)
    for (std::int64_t r = 0; r < rows; ++r) local(Row{r, cols});
  }
}

template <class F>
void for_each_row(Queue& queue, std::int64_t rows, std::int64_t cols, const F& f) {
  if (queue.kind() == DeviceKind::cuda) {
#ifdef MUONP_DEVICE_CODE
    return cuda::for_each_row(queue, rows, cols, f);
#else
    MUONP_ASSERT(false, "this kernel was not compiled for CUDA");
#endif
  }
  for_each_host_row(queue, rows, cols, f);
}

// Blocks of columns at the same time, each in row order: the number of threads changes nothing.
template <class F>
struct ColumnSums {
  static constexpr std::int64_t kColumns = 64;
  std::int64_t rows, cols;
  ColumnTargets<F::kSums> targets;
  F f;

  void operator()(const Row& block) const {
    const std::int64_t first = block.index * kColumns;
    const Row part = block.part(std::min(kColumns, cols - first));
    float totals[F::kSums][kColumns] = {};
    for (std::int64_t r = 0; r < rows; ++r)
      f.row(r, [&](const auto& g, auto... arrays) {
        [&]<std::size_t... k>(std::index_sequence<k...>) { part.over(g, (arrays + first)..., totals[k]...); }
        (std::make_index_sequence<F::kSums>());
      });
    for (int k = 0; k < F::kSums; ++k) {
      const ColumnTarget to = targets.of[k];
      const float* sums = totals[k];
      part.each([=](std::int64_t c) { to.out[first + c] = (to.add ? to.out[first + c] : 0.0f) + sums[c]; });
    }
  }
};

// f.row(r, use) calls use(g, x, y, ...) once and returns what that returns; x, y, ... are arrays that begin at column 0 of
// row r, and g(x[c], y[c], ..., sum_0, sum_1, ...) adds to the F::kSums sums of column c.
template <class F>
void column_sums(Queue& queue, std::int64_t rows, std::int64_t cols, const ColumnTargets<F::kSums>& targets, const F& f) {
  if (queue.kind() == DeviceKind::cuda) {
#ifdef MUONP_DEVICE_CODE
    return cuda::column_sums(queue, rows, cols, targets, f);
#else
    MUONP_ASSERT(false, "this kernel was not compiled for CUDA");
#endif
  }
  constexpr std::int64_t kColumns = ColumnSums<F>::kColumns;
  for_each_host_row(queue, (cols + kColumns - 1) / kColumns, rows * kColumns, ColumnSums<F>{rows, cols, targets, f});
}

}  // namespace muonp::core
