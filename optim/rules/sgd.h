// Gradient descent with momentum on a piece: a contiguous interval of a flattened parameter.
#pragma once

#include "optim/rules/rule.h"

namespace muonp::optim {

struct SgdParams {
  double momentum = 0.9;  // μ; 0 keeps no state
  bool ema = false;       // M ← μM + (1 − μ)g instead of M ← μM + g
  bool nesterov = false;
  double weight_decay = 0;  // decoupled
};

class Sgd final : public Rule {
 public:
  static constexpr std::string_view kName = "sgd";
  core::StepValue momentum = 0.95;
  std::string momentum_form = "ema";
  bool nesterov = true;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Sgd>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "Robbins and Monro, 1951; Polyak, 1964"; }
  std::string_view published_lr() const override { return "0.1"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override;  // none without momentum
  void move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
            std::span<const core::Tensor> states) const override;
};

// With g = gradient_scale·gradient:
//   M ← μM + g,  u = M, or g + μM with Nesterov  (exponential average: (1 − μ)g in place of g in both)
//   W ← (1 − lr·λ)W − lr·u
// All tensors are float32 of one size; M starts at 0 and may be an empty handle when μ = 0, where u = g. The
// gradient is not changed.
void sgd_update(core::Queue& queue, const SgdParams& params, double lr, double gradient_scale, const core::Tensor& master,
                const core::Tensor& gradient, const core::Tensor& momentum);

}  // namespace muonp::optim
