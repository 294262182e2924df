// Freon (arXiv 2605.11181): G preconditioned by a power of its own Gram matrix, u = scale·(NNᵀ)^(−c) N, which is P_p(N) with
// p = 1 − 2c. It reports its best exponents below 0, where small singular values become the largest.
//
//   M ← μM + (1 − μ)g,   N = (1 − μ)g + μM
//
// The momentum and the scale (match_rms) are chosen here: the text at hand says neither.
#pragma once

#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

class Freon final : public SpectralRule {
 public:
  static constexpr std::string_view kName = "freon";
  std::string c = "5/8";
  std::string scale_name = "match_rms";

  std::unique_ptr<Rule> clone() const override { return std::make_unique<Freon>(*this); }
  std::string_view name() const override { return kName; }
  std::string_view source() const override { return "arXiv 2605.11181"; }
  std::string_view published_lr() const override { return "none given"; }
  std::string text() const override { return fmt::format("{} c={}", kName, c); }
  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;

 protected:
  MomentumForm form() const override { return {.ema = true, .nesterov = true}; }
  core::StepText exponent() const override;  // 1 − 2c
  ShapeScale scale() const override { return parse_shape_scale(scale_name); }
};

}  // namespace muonp::optim
