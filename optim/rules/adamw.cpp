#include "optim/rules/adamw.h"

#include <cmath>

#include "core/device/for_each.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

namespace {

struct Step {
  float *w, *mean, *square;
  const float* gradients;
  float scale, b1, a1, b2, a2, keep, rate, root, eps;
  using Elements = core::ElementArrays<&Step::w, &Step::mean, &Step::square, &Step::gradients>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i];
    const float first = b1 * mean[i] + a1 * g;
    const float second = b2 * square[i] + a2 * g * g;
    mean[i] = first;
    square[i] = second;
    const float denominator = sqrtf(second) * root + eps;
    // 0/0 where the gradient has always been zero and eps is 0
    w[i] = keep * w[i] - (denominator > 0 || denominator != denominator ? rate * first / denominator : 0.0f);
  }
};

}  // namespace

void AdamW::describe(core::Fields& f) {
  f.step_value("beta1", beta1, {.min = 0, .max = 1}, "decay of the mean of gradients, below 1");
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean of squared gradients, below 1");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean of squares");
}

void AdamW::validate(const std::string& path) const {
  require_below_one(path, "beta1", beta1);
  require_below_one(path, "beta2", beta2);
}

void AdamW::move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
                 std::span<const core::Tensor> states) const {
  MUONP_ASSERT(states.size() == 2, "{} states of adamw", states.size());
  const AdamWParams params{beta1.at(facts.step), beta2.at(facts.step), eps, facts.weight_decay};
  adamw_update(queue, params, facts.lr, facts.step, facts.gradient_scale, master, gradient.values, states[0], states[1]);
}

void adamw_update(core::Queue& queue, const AdamWParams& params, double lr, std::int64_t step, double gradient_scale,
                  const core::Tensor& master, const core::Tensor& gradient, const core::Tensor& m, const core::Tensor& v) {
  MUONP_ASSERT(step >= 1, "step {} (the first is 1)", step);
  const std::int64_t n = master.size();
  MUONP_ASSERT(gradient.size() == n && m.size() == n && v.size() == n, "{} weights, {} gradients, {} m, {} v", n,
               gradient.size(), m.size(), v.size());
  const auto narrow = [](double x) { return static_cast<float>(x); };
  core::for_each(queue, n,
                 Step{.w = master.data<float>(),
                      .mean = m.data<float>(),
                      .square = v.data<float>(),
                      .gradients = gradient.data<float>(),
                      .scale = narrow(gradient_scale),
                      .b1 = narrow(params.beta1),
                      .a1 = narrow(1 - params.beta1),
                      .b2 = narrow(params.beta2),
                      .a2 = narrow(1 - params.beta2),
                      .keep = narrow(1 - lr * params.weight_decay),
                      .rate = narrow(lr / bias_correction(params.beta1, step)),
                      .root = narrow(1 / std::sqrt(bias_correction(params.beta2, step))),
                      .eps = narrow(params.eps)});
}

}  // namespace muonp::optim
