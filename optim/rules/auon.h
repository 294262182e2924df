// AuON (arXiv 2509.24320): a matrix normalised as a whole in the place of an orthogonalised one, so that no product is
// needed.
//
//   M ← μM + g,   N = g + μM,   Ĝ = N/‖N‖_F,   u = √max(1, m/n)·Ĝ/√(mean of cosh²(γĜ))
//
// The divisor is one number: relative singular values stay as they are. hybrid takes one step of Newton and Schulz first, on
// Ĝ, which moves them towards each other.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class AuON final : public Rule {
 public:
  static constexpr std::string_view kName = "auon";
  core::StepValue momentum = 0.95;
  double gamma = 1.5;
  bool hybrid = false;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<AuON>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2509.24320"; }
  std::string_view published_lr() const override { return "0.08 to 0.24"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override { return {{.name = "momentum", .content = Content::moment}}; }
  Needs needs() const override { return {.whole_matrices = true}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor> states) const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;
};

}  // namespace muonp::optim
