// TrasMuon (arXiv 2602.13498): NorMuon's rows, and columns damped that hold far more energy than is usual.
//
//   M ← βM + (1 − β)g,   O = P₀(M),   v ← β₂v + (1 − β₂)·mean over columns of O²,   B = O/(√v + eps), scaled to RMS 1
//   E_j = Σᵢ M_ij²,   E_ref ← ρE_ref + (1 − ρ)·median of E (the median itself at first)
//   c_j = clip(1/(1 + α·log(1 + E_j/E_ref)), c_min, 1),   u_ij = B_ij·c_j
//
// ρ is not published in what was at hand: 0.95, as the other averages.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class TrasMuon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "trasmuon";
  core::StepValue beta2 = 0.95;
  double eps = 1e-8, reference_beta = 0.95, alpha = 1, c_min = 0.1;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<TrasMuon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2602.13498"; }
  std::string_view published_lr() const override { return "none at hand"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;

 protected:
  MomentumForm form() const override { return {.ema = true, .nesterov = false}; }
};

}  // namespace muonp::optim
