// AdamW (Loshchilov and Hutter, arXiv 1711.05101) on a piece: a contiguous interval of a flattened parameter.
#pragma once

#include <cstdint>

#include "optim/rules/rule.h"

namespace muonp::optim {

struct AdamWParams {
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;  // decoupled
};

class AdamW final : public Rule {
 public:
  static constexpr std::string_view kName = "adamw";
  core::StepValue beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<AdamW>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 1711.05101"; }
  std::string_view published_lr() const override { return "1e-3"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override {
    return {{.name = "m", .content = Content::moment}, {.name = "v", .content = Content::second_moment}};
  }
  void move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
            std::span<const core::Tensor> states) const override;
};

// With g = gradient_scale·gradient and t = step, counted from 1:
//   m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²
//   W ← (1 − lr·λ)W − lr·(m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)
// All tensors are float32 of one size, and start at m = v = 0. The gradient is not changed. An element's
// result does not depend on how the parameter is cut into pieces.
void adamw_update(core::Queue& queue, const AdamWParams& params, double lr, std::int64_t step, double gradient_scale,
                  const core::Tensor& master, const core::Tensor& gradient, const core::Tensor& m, const core::Tensor& v);

}  // namespace muonp::optim
