// Gradient descent with momentum on a piece: a contiguous interval of a flattened parameter.
#pragma once

#include "core/device/device.h"
#include "core/device/tensor.h"

namespace muonp::optim {

struct SgdParams {
  double momentum = 0.9;  // μ; 0 keeps no state
  bool ema = false;       // M ← μM + (1 − μ)g instead of M ← μM + g
  bool nesterov = false;
  double weight_decay = 0;  // decoupled
};

// With g = gradient_scale·gradient:
//   M ← μM + g,  u = M, or g + μM with Nesterov  (exponential average: (1 − μ)g in place of g in both)
//   W ← (1 − lr·λ)W − lr·u
// All tensors are float32 of one size; M starts at 0 and may be an empty handle when μ = 0, where u = g. The
// gradient is not changed.
void sgd_update(core::Queue& queue, const SgdParams& params, double lr, double gradient_scale,
                const core::Tensor& master, const core::Tensor& gradient, const core::Tensor& momentum);

}  // namespace muonp::optim
