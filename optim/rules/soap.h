// SOAP (arXiv 2409.11321): Adam in the eigenbasis of Shampoo's preconditioners.
//
//   L ← βL + (1 − β)GGᵀ,   R ← βR + (1 − β)GᵀG
//   G′ = Q_Lᵀ G Q_R,   M ← β₁M + (1 − β₁)G,   V ← β₂V + (1 − β₂)G′²
//   u = Q_L (M̂′/(√V̂ + eps)) Q_Rᵀ,  M′ = Q_Lᵀ M Q_R
//   every `frequency` steps Q ← orthonormal factor of L·Q_L, of R·Q_R
//
// L and R include G. The first step learns the eigenvectors of its own L and R and moves nothing, as the authors' code has
// it: in a frame made of G itself, what G does not have is rounding, which Adam would blow up. A side longer than
// max_dimension is not rotated. V stays where a basis turns, as in the paper's algorithm 3.
#pragma once

#include "optim/rules/owner_step.h"

namespace muonp::optim {

class Soap final : public Rule {
 public:
  static constexpr std::string_view kName = "soap";
  core::StepValue beta1 = 0.95, beta2 = 0.95;
  double shampoo_beta = 0.95, eps = 1e-8;
  std::int64_t frequency = 10, max_dimension = 10000;
  bool one_sided = false;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Soap>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2409.11321"; }
  std::string_view published_lr() const override { return "3e-3"; }
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
