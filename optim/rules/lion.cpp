#include "optim/rules/lion.h"

#include "core/device/for_each.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

namespace {

struct SignStep {
  float *w, *mean;
  const float* gradients;
  float scale, b1, a1, b2, a2, keep, rate;
  using Elements = core::ElementArrays<&SignStep::w, &SignStep::mean, &SignStep::gradients>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i];
    const float u = b1 * mean[i] + a1 * g;
    mean[i] = b2 * mean[i] + a2 * g;
    w[i] = keep * w[i] - rate * (u > 0 ? 1.0f : u < 0 ? -1.0f : 0.0f);
  }
};

}  // namespace

void Lion::describe(core::Fields& f) {
  f.step_value("beta1", beta1, {.min = 0, .max = 1}, "weight of the mean of gradients in the sign, below 1");
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean of gradients, below 1");
}

void Lion::validate(const std::string& path) const {
  require_below_one(path, "beta1", beta1);
  require_below_one(path, "beta2", beta2);
}

void Lion::move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
                std::span<const core::Tensor> states) const {
  const double b1 = beta1.at(facts.step), b2 = beta2.at(facts.step);
  const auto narrow = [](double x) { return static_cast<float>(x); };
  core::for_each(queue, master.size(),
                 SignStep{.w = master.data<float>(),
                          .mean = states[0].data<float>(),
                          .gradients = gradient.values.data<float>(),
                          .scale = narrow(facts.gradient_scale),
                          .b1 = narrow(b1),
                          .a1 = narrow(1 - b1),
                          .b2 = narrow(b2),
                          .a2 = narrow(1 - b2),
                          .keep = narrow(1 - facts.lr * facts.weight_decay),
                          .rate = narrow(facts.lr)});
}

}  // namespace muonp::optim
