// Muon-MVR (arXiv 2512.16598): Muon on gradients whose noise is reduced by the momentum-based variance reduction of STORM.
//
//   C = G + γ·μ/(1 − μ)·(G − G_old), divided by its norm where that is above 1
//   M ← μM + (1 − μ)C,   u = 0.2·√(mn)/‖P₀(M)‖_F·P₀(M)
//
// G_old: exact, the gradient of the same samples at the weights of the step before, by a second pass; approximate, the
// gradient of the step before. C is made on shards, its norm and the momentum are the owner's. The scale is the published
// 0.2·√max(m, n) where M has full rank.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

inline constexpr std::string_view kMvrVariants[] = {"approximate", "exact"};

class MuonMvr final : public Rule, public SpectralKeys {
 public:
  static constexpr std::string_view kName = "muon_mvr";
  core::StepValue momentum = 0.95;
  double gamma = 0.025;
  std::string variant = "approximate";

  std::unique_ptr<Rule> clone() const override { return std::make_unique<MuonMvr>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2512.16598"; }
  std::string_view published_lr() const override { return "none at hand"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;
  Needs needs() const override { return {.whole_matrices = true, .old_gradient = exact()}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor> states) const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;

 private:
  bool exact() const { return variant == kMvrVariants[1]; }
};

}  // namespace muonp::optim
