// What the operations have in common. Activations are float32 or bfloat16; an operation is a template on that
// type and computes in float32.
#pragma once

#include <algorithm>
#include <utility>

#include "core/autograd/autograd.h"
#include "core/base/storage.h"
#include "core/device/for_each.h"

namespace muonp::core::ops {

inline std::int64_t last_dim(const Tensor& t) { return t.dim(-1); }
// Rows when all but the last dimension are one.
inline std::int64_t row_count(const Tensor& t) { return t.dim(-1) == 0 ? 0 : t.size() / t.dim(-1); }

inline bool wanted(const Variable& v) { return v->gradient != nullptr; }

// The output's gradient, taken out of it, to be read. Empty if nothing used the output.
inline Tensor take_gradient(const std::shared_ptr<Gradient>& gradient) { return std::exchange(gradient->tensor, Tensor()); }

// The same for a step that writes another gradient in its place: a copy where a step that has not run reads it too.
Tensor take_own_gradient(Tape& tape, const std::shared_ptr<Gradient>& gradient);

// Gives `v` a gradient whose storage is handed over; adds it where there is one already.
void add_gradient(Tape& tape, Gradient& to, Tensor gradient);

// Zeros a large tensor with all threads of the queue.
void zero(Queue& queue, const Tensor& t);

// to[i] = from[i], with all threads of the queue.
void copy(Queue& queue, const Tensor& from, const Tensor& to);

// `values` in memory of the tape's device, counted as activations: int32 and int64 tensors that kernels read. A host
// tensor on the CPU is handed through.
Tensor on_device(Tape& tape, const Tensor& host);

// Of a layer's bias: the sums over rows, `stride` elements apart, of its output's gradient.
template <class T>
struct BiasGradient {
  static constexpr int kSums = 1;
  const T* dy;
  std::int64_t stride;
  MUONP_COLUMN_KERNEL auto row(std::int64_t r, const Use& use) const {
    return use([](T slope, float& sum) { sum += float(slope); }, dy + r * stride);
  }
};

}  // namespace muonp::core::ops
