// Muon^p (arXiv 2606.13867; Muon, Jordan 2024, at p = 0): W moves by U Sᵖ Vᵀ of its momentum. Momentum and
// the weight update act on pieces (contiguous intervals of flattened parameters) on every rank; the spectral
// power acts on whole matrices on their owner (optim/rules/matrix_step.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/device/device.h"
#include "core/device/tensor.h"

namespace muonp::optim {

// The factor on Z = U Sᵖ Vᵀ of an m × n matrix N (docs/optimizers.md derives and compares them). All but
// `none` give the same update for N and for c·N with any c > 0.
enum class ShapeScale : std::uint8_t {
  match_rms,  // 0.2·√(mn)/‖Z‖_F: root mean square 0.2 at every p, as AdamW's (arXiv 2502.16982)
  spectral,  // √max(1, m/n)/σ_max(N)ᵖ: the direction of the largest singular value moves by √max(1, m/n)
  rms1,      // √(mn)/‖Z‖_F: root mean square 1 (arXiv 2606.13867)
  schatten,  // (mean of σ^{1+p})^{−p/(1+p)}: min(m,n)^{p/(1+p)} times the unit Schatten-(1 + 1/p) ball; p ≥ 0
  none       // 1
};
inline constexpr std::string_view kShapeScales[] = {"match_rms", "spectral", "rms1", "schatten", "none"};
ShapeScale parse_shape_scale(std::string_view name);  // Error lists the valid names
std::string_view name_of(ShapeScale scale);

struct MuonpParams {
  double momentum = 0.95;  // μ
  bool ema = true;         // M ← μM + (1 − μ)g; false: M ← μM + g
  bool nesterov = true;
  double weight_decay = 0;  // decoupled
  ShapeScale scale = ShapeScale::match_rms;
};

// With g = gradient_scale·gradient, or (1 − μ) times that for an exponential average:
//   M ← μM + g,  N = M, or g + μM with Nesterov
// The gradient piece is overwritten with N, the input of the spectral power, so that what is sent to the
// owner is never the momentum itself. float32, one size.
void muonp_momentum(core::Queue& queue, const MuonpParams& params, double gradient_scale,
                    const core::Tensor& gradient, const core::Tensor& momentum);

// W ← (1 − lr·λ)W − lr·update, float32, one size.
void apply_update(core::Queue& queue, const core::Tensor& master, const core::Tensor& update, double lr,
                  double weight_decay);

// update ← factor·Z in place, Z = [rows, cols] the spectral power of `input` with exponent p; the factor is
// returned. A zero Z stays zero (factor 0). Error if Z is not finite, or, for `schatten`, if ⟨input, Z⟩ is
// not positive.
double scale_update(core::Queue& queue, ShapeScale scale, double p, const core::Tensor& input,
                    const core::Tensor& update);

}  // namespace muonp::optim
