// What the operations have in common. Activations are float32 or bfloat16; an operation is a template on that
// type and computes in float32.
#pragma once

#include <algorithm>
#include <utility>

#include "core/autograd.h"
#include "core/for_each.h"

namespace muonp::core::ops {

// Calls f(T()) with the element type of `dtype`.
template <class F>
void with_float_type(Dtype dtype, const F& f) {
  MUONP_ASSERT(dtype == Dtype::float32 || dtype == Dtype::bfloat16, "activations cannot be {}",
               name_of(dtype));
  if (dtype == Dtype::float32) {
    f(float());
  } else {
    f(bfloat16());
  }
}

inline std::int64_t last_dim(const Tensor& t) { return t.dim(-1); }
// Rows when all but the last dimension are one.
inline std::int64_t row_count(const Tensor& t) { return t.dim(-1) == 0 ? 0 : t.size() / t.dim(-1); }

inline bool wanted(const Variable& v) { return v->gradient != nullptr; }

// The output's gradient, taken out of it: the caller owns the storage. Empty if nothing used the output.
inline Tensor take(const std::shared_ptr<Gradient>& gradient) {
  return std::exchange(gradient->tensor, Tensor());
}

// Gives `v` a gradient whose storage is handed over; adds it where there is one already.
void give(Tape& tape, Gradient& to, Tensor gradient);

// Zeros a large tensor with all threads of the queue.
void zero(Queue& queue, const Tensor& t);

// to[i] = from[i], with all threads of the queue.
void copy(Queue& queue, const Tensor& from, const Tensor& to);

// `values` in memory of the tape's device, counted as activations: int32 and int64 tensors that kernels read. A host
// tensor on the CPU is handed through.
Tensor on_device(Tape& tape, const Tensor& host);

// out[c] = Σ_r f(r, c), or that added to out.
template <class F>
struct ColumnSums {  // blocks of columns at the same time, each in row order: the number of threads changes nothing
  static constexpr std::int64_t kColumns = 64;
  std::int64_t rows, cols;
  float* out;
  bool add;
  F f;

  void operator()(const Row& block) const {
    const std::int64_t first = block.index * kColumns;
    const Row part = block.part(std::min(kColumns, cols - first));
    float total[kColumns] = {};
    float* sums = total;
    for (std::int64_t r = 0; r < rows; ++r) part.each([=, this](std::int64_t c) { sums[c] += f(r, first + c); });
    part.each([=, this](std::int64_t c) { out[first + c] = (add ? out[first + c] : 0.0f) + sums[c]; });
  }
};

template <class F>
void column_sums(Queue& queue, std::int64_t rows, std::int64_t cols, float* out, bool add, const F& f) {
#ifdef MUONP_DEVICE_CODE
  if (queue.kind() == DeviceKind::cuda) return cuda::column_sums(queue, rows, cols, out, add, f);
#endif
  constexpr std::int64_t kColumns = ColumnSums<F>::kColumns;
  for_each_host_row(queue, (cols + kColumns - 1) / kColumns, rows * kColumns,
                    ColumnSums<F>{rows, cols, out, add, f});
}

// A kernel for the bias of a layer: column sums of its output's gradient.
template <class T>
struct Entry {
  const T* values;
  std::int64_t cols;
  MUONP_HD float operator()(std::int64_t r, std::int64_t c) const { return float(values[r * cols + c]); }
};

}  // namespace muonp::core::ops
