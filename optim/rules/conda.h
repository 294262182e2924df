// Conda (arXiv 2509.24218): Adam in the frame of the momentum's singular vectors, found anew every T steps.
//
//   M ← β₁M + (1 − β₁)G;   every T steps U = left singular vectors of M (right ones where M is tall: the smaller side)
//   G′ = UᵀG,  M′ = UᵀM,   v ← β₂v + (1 − β₂)G′²
//   u = scale·√(1 − β₂ᵗ)/(1 − β₁ᵗ)·U(M′/(√v + eps))
#pragma once

#include "optim/rules/owner_step.h"

namespace muonp::optim {

class Conda final : public Rule {
 public:
  static constexpr std::string_view kName = "conda";
  core::StepValue beta1 = 0.9, beta2 = 0.99;
  double eps = 1e-8, scale = 0.25;
  std::int64_t interval = 2000;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Conda>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2509.24218"; }
  std::string_view published_lr() const override { return "6e-3 (125M)"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;
  Needs needs() const override { return {.whole_matrices = true}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor>) const override {
    return mean_gradient(queue, facts, gradient);
  }
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;
};

}  // namespace muonp::optim
