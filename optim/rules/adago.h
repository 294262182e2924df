// AdaGO (arXiv 2509.02981): the polar factor of a momentum with AdaGrad-Norm's step size.
//
//   v² ← v² + min(‖G‖, γ)²,   α = max(eps, η·min(‖G‖, γ)/v),   M ← μM + (1 − μ)G,   W ← W − α·P₀(M)
//
// ‖G‖ is of a whole parameter, before clipping. u = (α/η)·P₀(M), 0 where the schedule's η is 0.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class AdaGO final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "adago";
  double gamma = 1, eps = 5e-4;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<AdaGO>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2509.02981"; }
  std::string_view published_lr() const override { return "0.05"; }
  void describe(core::Fields& fields) override;
  std::vector<StateSpec> states() const override;
  Needs needs() const override { return {.whole_matrices = true, .gradient_norm = true}; }
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;

 protected:
  MomentumForm form() const override { return {.ema = true, .nesterov = false}; }
};

}  // namespace muonp::optim
