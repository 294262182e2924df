// The residual stream: sums and dropout.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// a + b, of one shape and dtype.
Variable add(Tape& tape, const Variable& a, const Variable& b);

// For operations that compute a sum along with something else: room for a + b, and that as a value of the tape.
Tensor sum_of_terms(Tape& tape, const Variable& a, const Variable& b);
Variable sum_result(Tape& tape, const Variable& a, const Variable& b, const Tensor& sum);

// Element e of the global batch is kept with probability 1 − p and then divided by 1 − p; whether it is kept
// is a function of (seed, stream, e) only. x is the elements first_element, first_element + 1, ... of that
// batch, so that a batch cut into micro-batches, over ranks or not, has the same masks.
struct DropoutMask {
  double probability = 0;  // p in [0, 1)
  std::uint64_t seed = 0, stream = 0;
  std::int64_t first_element = 0;
};
Variable dropout(Tape& tape, const Variable& x, const DropoutMask& mask);
// The same, on tensors of one shape and type, which may be one.
void drop(Queue& queue, const DropoutMask& mask, const Tensor& from, const Tensor& to);

}  // namespace muonp::core::ops
