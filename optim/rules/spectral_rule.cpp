#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

void SpectralRule::describe(core::Fields& f) {
  f.step_value("momentum", momentum, {.min = 0, .max = 1}, "momentum factor, below 1");
  describe_spectral(f);
}

void SpectralRule::validate(const std::string& path) const {
  require_below_one(path, "momentum", momentum);
  for (const core::AtStep& at : core::values_at_steps(exponent())) require_possible(path, at.value);
}

Direction SpectralRule::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                                  std::span<const core::Tensor> states) const {
  const auto [ema, nesterov] = form();
  muonp_momentum(queue, {momentum.at(facts.step), ema, nesterov}, facts.gradient_scale, gradient.values, states[0]);
  return {gradient.values};
}

std::unique_ptr<SpectralStep> SpectralRule::spectral_step(core::DeviceKind device, ShapeScale scale) const {
  std::vector<PowerFrom> powers;
  for (const core::AtStep& at : core::values_at_steps(exponent()))
    powers.push_back({at.step, spectral::make_spectral_power(spectral_options(at.value, device))});
  return std::make_unique<SpectralStep>(std::move(powers), scale, device);
}

std::unique_ptr<MatrixStep> SpectralRule::matrix_step(core::DeviceKind device) const {
  return spectral_step(device, scale());
}

}  // namespace muonp::optim
