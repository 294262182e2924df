#include "optim/rules/spectral_rule.h"

namespace muonp::optim {

void SpectralRule::describe(core::Fields& f) {
  f.step_value("momentum", momentum, {.min = 0, .max = 1}, "momentum factor, below 1");
  describe_spectral(f);
}

void SpectralRule::validate(const std::string& path) const {
  require_below_one(path, "momentum", momentum);
  std::vector<spectral::Exponent> all;
  try {
    all = Exponents(exponent()).all();
  } catch (const core::Error& e) {
    core::fail("{}: {}", path, e.what());
  }
  for (const spectral::Exponent p : all) require_possible(path, to_string(p));
}

Direction SpectralRule::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                                  std::span<const core::Tensor> states) const {
  const auto [ema, nesterov] = form();
  muonp_momentum(queue, {momentum.at(facts.step), ema, nesterov}, facts.gradient_scale, gradient.values, states[0]);
  return {gradient.values};
}

std::unique_ptr<SpectralStep> SpectralRule::spectral_step(core::DeviceKind device, ShapeScale scale) const {
  spectral::SpectralOptions options = spectral_options("0", device);
  options.steps = polar_steps();
  return std::make_unique<SpectralStep>(options, Exponents(exponent()), scale, device);
}

std::unique_ptr<MatrixStep> SpectralRule::matrix_step(core::DeviceKind device) const {
  return spectral_step(device, scale());
}

std::optional<StepExponent> SpectralRule::step_exponent(std::int64_t step) const {
  const Exponents exponents(exponent());
  return StepExponent{exponents.at(step), exponents.exact(step)};
}

}  // namespace muonp::optim
