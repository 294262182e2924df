// The non-linear functions between two linear layers. Any shape, float32 or bfloat16.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// x·Φ(x) in the tanh form of GPT-2: x/2·(1 + tanh(√(2/π)(x + 0.044715 x³))) (Hendrycks and Gimpel 2016).
Variable gelu(Tape& tape, const Variable& x);

// max(x, 0)² (So et al. 2021, "Primer").
Variable relu_squared(Tape& tape, const Variable& x);

// [..., 2·hidden] → [..., hidden]: silu(a)·b of the first half a and the second half b (Shazeer 2020).
Variable swiglu(Tape& tape, const Variable& x);

}  // namespace muonp::core::ops
