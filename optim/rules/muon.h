// Muon (Jordan 2024): the polar factor P₀ of a momentum, by five steps of Newton and Schulz: the same polynomials on the
// smaller Gram matrix (Gram Newton–Schulz, Dao-AILab), or as published (newton_schulz5).
//
//   M ← μM + g,   N = g + μM (Nesterov),   u = scale·P₀(N)
//
// scale: aspect, √max(1, m/n), or match_rms, 0.2·√max(m, n) for a polar factor of full rank (arXiv 2502.16982). Stopped
// early or in coarse storage it is the inexact Muon of arXiv 2510.19933: the keys steps and dtype.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class Muon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "muon";
  bool nesterov = true;
  std::string scale_name = "aspect";
  std::int64_t steps = 5;

  Muon() { method = "gram_newton_schulz"; }

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Muon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "Jordan 2024"; }
  std::string_view published_lr() const override { return "0.02"; }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;

 protected:
  MomentumForm form() const override { return {.ema = false, .nesterov = nesterov}; }
  ShapeScale scale() const override { return parse_shape_scale(scale_name); }
  int polar_steps() const override { return static_cast<int>(steps); }
};

}  // namespace muonp::optim
