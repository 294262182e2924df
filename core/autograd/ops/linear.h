// y = x·Wᵀ + b.
#pragma once

#include <span>

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// x: [..., inputs]; weight: [outputs, inputs]; bias: [outputs] or null; result: [..., outputs]. All of one
// dtype, float32 or bfloat16. The gradients of weight and bias are float32, summed over all rows.
Variable linear(Tape& tape, const Variable& x, Parameter& weight, Parameter* bias);

struct LinearPart {
  Parameter* weight;
  Parameter* bias;  // may be null
};

// The results of all parts side by side: [..., sum of outputs]. Reads all of them at once. Weights that lie one behind the
// other in memory are multiplied as one, and so are their gradients; buckets hold parameters in the reverse of the model's
// list (dist/plan/shard_plan.h), so that a model lists the weights of the parts next to each other, the last part first.
Variable linear(Tape& tape, const Variable& x, std::span<const LinearPart> parts);

}  // namespace muonp::core::ops
