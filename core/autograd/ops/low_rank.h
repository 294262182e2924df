// Low-rank adapters of linear layers: what linear.cpp adds to its result, and the way back.
#pragma once

#include <vector>

#include "core/autograd/ops/linear.h"
#include "core/device/blas.h"

namespace muonp::core::ops {

// An adapter, and the columns of the layer's result that it adds to.
struct Adapted {
  LowRank adapter;
  std::int64_t column;

  std::int64_t outputs() const { return adapter.b->shape[0]; }
  std::int64_t rank() const { return adapter.a->shape[0]; }
};

// InternalError where shapes or types do not fit x and the weight beside it.
void check_adapter(const Tensor& x, const LinearPart& part);

// y[:, columns] += scale·(x·Aᵀ)·Bᵀ. The parameters have been acquired.
void add_adapters(Tape& tape, const std::vector<Adapted>& all, const DropoutMask& dropped, const Tensor& x, const Tensor& y);

// Of A and B where they are trained; and, where dx is not null, what comes back to x, added to what is there. The
// parameters have been acquired.
void adapter_gradients(Tape& tape, const std::vector<Adapted>& all, const DropoutMask& dropped, const Tensor& x,
                       const Tensor& dy, const Tensor* dx);

}  // namespace muonp::core::ops
