#include "optim/rules/beyond_muon_rms.h"

#include <cmath>

#include "core/device/for_each.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

namespace {

struct Normalize {
  float *gradients, *mean, *square;
  float scale, b1, a1, b2, a2, own, root, eps;
  using Elements = core::ElementArrays<&Normalize::gradients, &Normalize::mean, &Normalize::square>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i];
    const float first = b1 * mean[i] + a1 * g, second = b2 * square[i] + a2 * g * g;
    mean[i] = first;
    square[i] = second;
    const float denominator = sqrtf(second) * root + eps;
    gradients[i] = denominator > 0 || denominator != denominator ? own * first / denominator : 0.0f;
  }
};

}  // namespace

void BeyondMuonRms::describe(core::Fields& f) {
  f.step_value("beta1", beta1, {.min = 0, .max = 1}, "decay of the mean of gradients, below 1");
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean of squared gradients, below 1");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean of squares");
  f.text("p", p, "exponent of U S^p V^T, a fraction in [-1/2, 1]");
  describe_spectral(f);
}

void BeyondMuonRms::validate(const std::string& path) const {
  require_below_one(path, "beta1", beta1);
  require_below_one(path, "beta2", beta2);
  require_possible(path, p);
}

Direction BeyondMuonRms::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                                   std::span<const core::Tensor> states) const {
  const double b1 = beta1.at(facts.step), b2 = beta2.at(facts.step);
  const auto narrow = [](double x) { return static_cast<float>(x); };
  core::for_each(queue, gradient.values.size(),
                 Normalize{.gradients = gradient.values.data<float>(),
                           .mean = states[0].data<float>(),
                           .square = states[1].data<float>(),
                           .scale = narrow(facts.gradient_scale),
                           .b1 = narrow(b1),
                           .a1 = narrow(1 - b1),
                           .b2 = narrow(b2),
                           .a2 = narrow(1 - b2),
                           .own = narrow(1 / bias_correction(b1, facts.step)),
                           .root = narrow(1 / std::sqrt(bias_correction(b2, facts.step))),
                           .eps = narrow(eps)});
  return {gradient.values};
}

std::unique_ptr<MatrixStep> BeyondMuonRms::matrix_step(core::DeviceKind device) const {
  const spectral::SpectralOptions options = spectral_options(p, device);
  const ShapeScale scale = options.p.value() == 0 ? ShapeScale::aspect : ShapeScale::none;
  return std::make_unique<SpectralStep>(spectral::make_spectral_power(options), scale, device);
}

}  // namespace muonp::optim
