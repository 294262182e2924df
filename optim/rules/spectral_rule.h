// The kin of Muon^p: rules that move W by a spectral power of a momentum, and differ in the momentum, the exponent, the
// scale, and in what they make of the power. What they share is here; each has its own pair of files.
//
//   M ← μM + ĝ,   N = M, or ĝ + μM with Nesterov,   u = scale·P_p(N);   ĝ = g, or (1 − μ)g for an exponential average
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "optim/rules/muonp.h"
#include "optim/rules/owner_step.h"

namespace muonp::optim {

class SpectralRule : public Rule, public SpectralKeys {
 public:
  core::StepValue momentum = 0.95;

  void describe(core::Fields& fields) override;
  void validate(const std::string& path) const override;
  std::vector<StateSpec> states() const override { return {{.name = "momentum", .content = Content::moment}}; }
  Needs needs() const override { return {.whole_matrices = true}; }
  Direction direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                      std::span<const core::Tensor> states) const override;
  std::unique_ptr<MatrixStep> matrix_step(core::DeviceKind device) const override;
  std::optional<StepExponent> step_exponent(std::int64_t step) const override;

 protected:
  struct MomentumForm {
    bool ema, nesterov;
  };
  virtual MomentumForm form() const = 0;                   // of the momentum
  virtual core::StepText exponent() const { return "0"; }  // p, a schedule perhaps
  virtual ShapeScale scale() const { return ShapeScale::none; }
  virtual int polar_steps() const { return spectral::SpectralOptions().steps; }
  std::unique_ptr<SpectralStep> spectral_step(core::DeviceKind device, ShapeScale scale) const;
};

}  // namespace muonp::optim
