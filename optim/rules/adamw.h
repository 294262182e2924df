// AdamW (Loshchilov and Hutter, arXiv 1711.05101) on a piece: a contiguous interval of a flattened parameter.
#pragma once

#include <cstdint>

#include "core/device/device.h"
#include "core/device/tensor.h"

namespace muonp::optim {

struct AdamWParams {
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;  // decoupled
};

// With g = gradient_scale·gradient and t = step, counted from 1:
//   m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²
//   W ← (1 − lr·λ)W − lr·(m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)
// All tensors are float32 of one size, and start at m = v = 0. The gradient is not changed. An element's
// result does not depend on how the parameter is cut into pieces.
void adamw_update(core::Queue& queue, const AdamWParams& params, double lr, std::int64_t step,
                  double gradient_scale, const core::Tensor& master, const core::Tensor& gradient,
                  const core::Tensor& m, const core::Tensor& v);

}  // namespace muonp::optim
