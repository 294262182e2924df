// BeyondMuon's RMS-normalised family (arXiv 2602.04669): a spectral power of what Adam would move by.
//
//   m ← β₁m + (1 − β₁)g,   v ← β₂v + (1 − β₂)g²,   N = (m/(1 − β₁ᵗ)) / (√(v/(1 − β₂ᵗ)) + eps)
//   u = √max(1, m/n)·P₀(N) at p = 0, P_p(N) elsewhere
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class BeyondMuonRms final : public Rule, public SpectralKeys {
 public:
  static constexpr std::string_view kName = "beyond_muon_rms";
  core::StepValue beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  std::string p = "1/4";

  std::unique_ptr<Rule> clone() const override { return std::make_unique<BeyondMuonRms>(*this); }
  std::string_view name() const override { return kName; }
  std::string text() const override { return fmt::format("{} p={}", kName, p); }
  std::string_view source() const override { return "arXiv 2602.04669"; }
  std::string_view published_lr() const override { return "4e-3, 1e-2, 2e-2, 7e-3 for p = 1, 1/2, 1/4, 0"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override {
    return {{.name = "m", .content = Content::moment}, {.name = "v", .content = Content::second_moment}};
  }
  Needs needs() const override { return {.whole_matrices = true, .mean_gradient = true}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor> states) const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;
};

}  // namespace muonp::optim
