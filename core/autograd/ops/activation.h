// The non-linear functions between two linear layers; gelu is in linear.h. Any shape, float32 or bfloat16.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// max(x, 0)² (So et al. 2021, "Primer").
Variable relu_squared(Tape& tape, const Variable& x);

// [..., 2·hidden] → [..., hidden]: silu(a)·b of the first half a and the second half b (Shazeer 2020).
Variable swiglu(Tape& tape, const Variable& x);

}  // namespace muonp::core::ops
