// NorMuon (arXiv 2510.05491): the polar factor with rows of equal size over time.
//
//   M ← βM + (1 − β)g,   O = P₀(M),   v ← β₂v + (1 − β₂)·mean over columns of O²
//   Ô = O/(√v + eps) row by row,   u = 0.2·√(mn)/‖Ô‖_F·Ô
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class NorMuon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "normuon";
  core::StepValue beta2 = 0.95;
  double eps = 1e-8;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<NorMuon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2510.05491"; }
  std::string_view published_lr() const override { return "3e-4 to 2e-3, AdamW's"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;

 protected:
  MomentumForm form() const override { return {.ema = true, .nesterov = false}; }
};

// v ← beta2·v + (1 − beta2)·mean over columns of O², O ← O/(√v + eps), for O [count, rows, cols] and v [count, rows].
// O is finite afterwards.
void normalize_rows(core::Queue& queue, double beta2, double eps, const core::Tensor& o, const core::Tensor& v);
// ‖O‖_F² of each such O for scale_updates(), which then has nothing to read. None on a CPU, where it does not take them.
core::Tensor squares_of_normalized(core::Queue& queue, const core::Tensor& o);

}  // namespace muonp::optim
