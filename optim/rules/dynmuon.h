// DynMuon (arXiv 2605.17109): the exponent falls over the run along a logistic curve, from p_max to p_min = −1/4.
//
//   M ← μM + (1 − μ)g,   N = (1 − μ)g + μM,   u = scale·P_{p(t)}(N)
//   p(t) = p_min + (p_max − p_min)/(1 + exp((t/T − τ)/w)),   τ 0.02 to 0.04, w 0.01 to 0.04
//
// Each step's exponent is the nearest rational of denominator up to 16. p_max = 1/2, the momentum and the scale (match_rms)
// are chosen here: the text at hand says none of them.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class DynMuon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "dynmuon";
  core::StepText p = "logistic 1/2 -1/4 tau 0.03 width 0.02";
  std::string scale_name = "match_rms";

  std::unique_ptr<Rule> clone() const override { return std::make_unique<DynMuon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2605.17109"; }
  std::string_view published_lr() const override { return "none at hand"; }
  std::string text() const override { return fmt::format("{} p={}", kName, Exponents(p).text()); }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;

 protected:
  MomentumForm form() const override { return {.ema = true, .nesterov = true}; }
  core::StepText exponent() const override { return p; }
  ShapeScale scale() const override { return parse_shape_scale(scale_name); }
};

}  // namespace muonp::optim
