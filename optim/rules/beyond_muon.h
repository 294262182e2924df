// BeyondMuon's momentum family (arXiv 2602.04669): a spectral power of a plain momentum.
//
//   M ← μM + g,   u = √max(1, m/n)·P₀(M) at p = 0, P_p(M) elsewhere
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class BeyondMuon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "beyond_muon";
  std::string p = "1/4";

  BeyondMuon() { momentum = 0.9; }

  std::unique_ptr<Rule> clone() const override { return std::make_unique<BeyondMuon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2602.04669"; }
  std::string_view published_lr() const override { return "5.0, 0.2, 0.04, 0.007 for p = 1, 1/2, 1/4, 0"; }
  std::string text() const override { return fmt::format("{} p={}", kName, p); }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;

 protected:
  MomentumForm form() const override { return {.ema = false, .nesterov = false}; }
  core::StepText exponent() const override { return p; }
  ShapeScale scale() const override;
};

}  // namespace muonp::optim
