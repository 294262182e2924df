// Schedule-Free AdamW (Defazio et al., arXiv 2405.15682, algorithm 1) on a piece: gradients are taken at y, between the
// iterate z and its average x, and x is what the model is evaluated at. With γ the group's learning rate:
//
//   v ← β₂v + (1 − β₂)g²,   γₜ = γ·√(1 − β₂ᵗ)·min(1, t/warmup)
//   z ← z − γₜ(g/(√v + eps) + λy),   x ← (1 − c)x + c·z,  c = γₜ²/Σ_{i ≤ t} γᵢ²,   y ← (1 − β₁)z + β₁x
//
// The weights are y, and z = (y − β₁x)/(1 − β₁) need not be kept. c leaves γ itself out, so that the group's lr should be
// constant: schedule.kind: constant, and the warm-up here.
#pragma once

#include "optim/rules/rule.h"

namespace muonp::optim {

class ScheduleFree final : public Rule {
 public:
  static constexpr std::string_view kName = "schedule_free";
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  std::int64_t warmup = 0;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<ScheduleFree>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2405.15682"; }
  std::string_view published_lr() const override { return "2.5e-3, one to ten times AdamW's"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override {
    return {{.name = std::string(kAverage)}, {.name = "v", .content = Content::second_moment}};
  }
  bool evaluates_average() const override { return true; }
  void move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
            std::span<const core::Tensor> states) const override;

  // c of a step.
  double average_weight(std::int64_t step) const;
};

}  // namespace muonp::optim
