// SpecMuon (arXiv 2602.16167): the leading modes of a normalised momentum, each weighted by an auxiliary variable that
// follows the loss f, so that a mode of much energy slows down where the loss falls slower than it should.
//
//   M ← μM + (1 − μ)g,   Ĝ = M/‖M‖_F ≈ Σ_{j ≤ k} σ_j u_j v_jᵀ,   q = √(f + c)
//   r̃_j = r_j/(1 + η σ_j²/(2q²)),   u = √max(1, m/n)·Σ_j (r̃_j/q) u_j v_jᵀ,   r_j ← ξ r̃_j + (1 − ξ)q   (r_j = q at first)
//
// The paper's text at hand gives the relaxed scalar auxiliary variable a mode, and neither k, ξ and c nor what becomes of
// the other modes: here k = 8, ξ = 0.9, c = 1, and the others rest. Modes are found by block power steps from a fixed block.
#pragma once

#include "optim/rules/owner_step.h"

namespace muonp::optim {

class SpecMuon final : public Rule {
 public:
  static constexpr std::string_view kName = "specmuon";
  core::StepValue momentum = 0.95;
  std::int64_t modes = 8, power_steps = 4;
  double xi = 0.9, shift = 1;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<SpecMuon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2602.16167"; }
  std::string_view published_lr() const override { return "none at hand"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;
  Needs needs() const override { return {.whole_matrices = true, .loss = true}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor> states) const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;
};

}  // namespace muonp::optim
