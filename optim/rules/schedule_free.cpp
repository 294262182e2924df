#include "optim/rules/schedule_free.h"

#include <algorithm>
#include <cmath>

#include "core/device/for_each.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

namespace {

struct AverageStep {
  float *y, *x, *square;
  const float* gradients;
  float scale, beta, rest, b2, a2, rate, decay, eps, c;
  using Elements = core::ElementArrays<&AverageStep::y, &AverageStep::x, &AverageStep::square, &AverageStep::gradients>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i], at = y[i];
    const float second = b2 * square[i] + a2 * g * g, denominator = sqrtf(second) + eps;
    square[i] = second;
    const float direction = denominator > 0 || denominator != denominator ? g / denominator : 0.0f;
    const float z = (at - beta * x[i]) / rest - rate * direction - decay * at;
    const float average = x[i] + c * (z - x[i]);
    x[i] = average;
    y[i] = rest * z + beta * average;
  }
};

}  // namespace

void ScheduleFree::describe(core::Fields& f) {
  f.real("beta1", beta1, {.min = 0, .max = 1}, "how near the average gradients are taken, below 1");
  f.real("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean of squared gradients, below 1");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean of squares");
  f.integer("warmup", warmup, {.min = 0}, "length of the linear warm-up, which the average's weights know [steps]");
}

void ScheduleFree::validate(const std::string& path) const {
  require_below_one(path, "beta1", beta1);
  require_below_one(path, "beta2", beta2);
}

double ScheduleFree::average_weight(std::int64_t step) const {
  const auto square = [this](std::int64_t t) {
    const double warm = warmup > 0 ? std::min(1.0, static_cast<double>(t) / static_cast<double>(warmup)) : 1.0;
    return bias_correction(beta2, t) * warm * warm;
  };
  // Past warm-up and bias correction every step weighs 1.
  const std::int64_t settled = std::min(step, std::max(warmup, static_cast<std::int64_t>(40 / (1 - beta2))));
  double sum = static_cast<double>(step - settled);
  for (std::int64_t t = 1; t <= settled; ++t) sum += square(t);
  return square(step) / sum;
}

void ScheduleFree::move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
                        std::span<const core::Tensor> states) const {
  const double warm = warmup > 0 ? std::min(1.0, static_cast<double>(facts.step) / static_cast<double>(warmup)) : 1.0;
  const double rate = facts.lr * std::sqrt(bias_correction(beta2, facts.step)) * warm;
  const auto narrow = [](double value) { return static_cast<float>(value); };
  core::for_each(queue, master.size(),
                 AverageStep{.y = master.data<float>(),
                             .x = states[0].data<float>(),
                             .square = states[1].data<float>(),
                             .gradients = gradient.values.data<float>(),
                             .scale = narrow(facts.gradient_scale),
                             .beta = narrow(beta1),
                             .rest = narrow(1 - beta1),
                             .b2 = narrow(beta2),
                             .a2 = narrow(1 - beta2),
                             .rate = narrow(rate),
                             .decay = narrow(rate * facts.weight_decay),
                             .eps = narrow(eps),
                             .c = narrow(average_weight(facts.step))});
}

}  // namespace muonp::optim
