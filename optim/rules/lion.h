// Lion (Chen et al., arXiv 2302.06675) on a piece: a contiguous interval of a flattened parameter.
//
//   u = sign(β₁m + (1 − β₁)g),   m ← β₂m + (1 − β₂)g
#pragma once

#include "optim/rules/rule.h"

namespace muonp::optim {

class Lion final : public Rule {
 public:
  static constexpr std::string_view kName = "lion";
  core::StepValue beta1 = 0.9, beta2 = 0.99;

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Lion>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2302.06675"; }
  std::string_view published_lr() const override { return "1e-4, a third to a tenth of AdamW's"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override { return {{.name = "m", .content = Content::moment}}; }
  void move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
            std::span<const core::Tensor> states) const override;
};

}  // namespace muonp::optim
