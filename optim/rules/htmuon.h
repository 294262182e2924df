// HTMuon (arXiv 2603.10067): a small power keeps the heavy tail of the spectrum that the polar factor flattens.
//
//   M ← μM + (1 − μ)g,   N = (1 − μ)g + μM,   u = √max(1, m/n)·P_p(N),   p = 1/8
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class HTMuon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "htmuon";
  core::StepText p = "1/8";

  std::unique_ptr<Rule> clone() const override { return std::make_unique<HTMuon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2603.10067"; }
  std::string_view published_lr() const override { return "0.02"; }
  std::string text() const override { return fmt::format("{} p={}", kName, Exponents(p).text()); }
  void describe(core::Fields& fields) override;

 protected:
  MomentumForm form() const override { return {.ema = true, .nesterov = true}; }
  core::StepText exponent() const override { return p; }
  ShapeScale scale() const override { return ShapeScale::aspect; }
};

}  // namespace muonp::optim
