// y = x·Wᵀ + b, with a low-rank adapter + scale·(x·Aᵀ)·Bᵀ, and gelu between two of them.
#pragma once

#include <span>

#include "core/autograd/autograd.h"
#include "core/autograd/ops/residual.h"

namespace muonp::core::ops {

// x: [..., inputs]; weight: [outputs, inputs]; bias: [outputs] or null; result: [..., outputs]. All of one
// dtype, float32 or bfloat16. The gradients of weight and bias are float32, summed over all rows.
Variable linear(Tape& tape, const Variable& x, Parameter& weight, Parameter* bias);

// A low-rank adapter (LoRA, Hu et al., arXiv 2106.09685): a [rank, inputs], b [outputs, rank].
struct LowRank {
  Parameter* a = nullptr;  // both or neither
  Parameter* b = nullptr;
  float scale = 1;
};
struct LinearPart {
  Parameter* weight;
  Parameter* bias;  // may be null
  LowRank adapter = {};
};

// The results of all parts side by side: [..., sum of outputs]. Reads all of them at once. Weights that lie one behind the
// other in memory are multiplied as one, and so are their gradients; buckets hold parameters in the reverse of the model's
// list (dist/plan/shard_plan.h), so that a model lists the weights of the parts next to each other, the last part first.
// `dropped`: of what adapters read of x, one mask for all of them; nothing is kept of it, nor of x·Aᵀ: the backward pass
// computes both again.
Variable linear(Tape& tape, const Variable& x, std::span<const LinearPart> parts, const DropoutMask& dropped = {});

// gelu (core/device/blas.h) of a linear layer's result, for another linear layer. A GPU takes gelu with the product before
// it and the slope with the product of the second layer's backward pass, so that neither costs a pass over memory of its
// own.
struct GeluOfLinear {
  Variable before;  // what it is of; for the layer that reads `value`, and for no other operation
  Tensor value;
};
GeluOfLinear linear_gelu(Tape& tape, const Variable& x, const LinearPart& part, const DropoutMask& dropped = {});
Variable linear(Tape& tape, const GeluOfLinear& x, const LinearPart& part, const DropoutMask& dropped = {});

}  // namespace muonp::core::ops
