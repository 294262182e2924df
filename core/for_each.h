// The two executors that run every elementwise and row-wise kernel. A kernel is a functor that a host and a CUDA
// compiler both accept; it is written once.
//
//   for_each(queue, n, f)                 f(i) for i in [0, n), in any order, at the same time
//   for_each_row(queue, rows, cols, f)    f(row) for each row; within it row.sum(g), row.max(g) reduce g(c) over the
//                                         columns c and give every caller the result; row.each(g) calls g(c)
#pragma once

#include <cmath>
#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"

namespace muonp::core {

inline constexpr std::int64_t kSerialBelow = 8192;  // elements: starting an OpenMP team costs more than it gains

struct Row {
  std::int64_t index;
  std::int64_t cols;

  template <class G>
  float sum(const G& g) const {
    float total = 0;
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
};

template <class F>
void for_each(Queue& queue, std::int64_t n, const F& f) {
  MUONP_ASSERT(queue.kind() == DeviceKind::cpu, "this kernel was not compiled for CUDA");
#pragma omp parallel if (n >= kSerialBelow) num_threads(queue.threads())
  {
    const F local = f;  // what it captured can then stay in registers, without which the loop is not vectorised
#pragma omp for simd schedule(static)
    for (std::int64_t i = 0; i < n; ++i) local(i);
  }
}

template <class F>
void for_each_row(Queue& queue, std::int64_t rows, std::int64_t cols, const F& f) {
  MUONP_ASSERT(queue.kind() == DeviceKind::cpu, "this kernel was not compiled for CUDA");
#pragma omp parallel for schedule(static) if (rows * cols >= kSerialBelow) num_threads(queue.threads())
  for (std::int64_t r = 0; r < rows; ++r) f(Row{r, cols});
}

}  // namespace muonp::core
