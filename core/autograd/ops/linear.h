// y = x·Wᵀ + b.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// x: [..., inputs]; weight: [outputs, inputs]; bias: [outputs] or null; result: [..., outputs]. All of one
// dtype, float32 or bfloat16. The gradients of weight and bias are float32, summed over all rows.
Variable linear(Tape& tape, const Variable& x, Parameter& weight, Parameter* bias);

}  // namespace muonp::core::ops
