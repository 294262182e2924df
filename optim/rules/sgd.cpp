#include "optim/rules/sgd.h"

#include "core/device/for_each.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

namespace {

struct Descend {
  float* w;
  const float* gradients;
  float keep, rate, scale;
  using Elements = core::ElementArrays<&Descend::w, &Descend::gradients>;
  MUONP_HD void operator()(std::int64_t i) const { w[i] = keep * w[i] - rate * (scale * gradients[i]); }
};

struct DescendWithMomentum {
  float *w, *average;
  const float* gradients;
  float keep, rate, scale, mu, own, ahead;  // the step is own·g + ahead·M
  using Elements =
      core::ElementArrays<&DescendWithMomentum::w, &DescendWithMomentum::average, &DescendWithMomentum::gradients>;

  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i];
    const float moved = mu * average[i] + g;
    average[i] = moved;
    w[i] = keep * w[i] - rate * (own * g + ahead * moved);
  }
};

}  // namespace

void Sgd::describe(core::Fields& f) { describe_momentum(f, momentum, momentum_form, nesterov); }

void Sgd::validate(const std::string& path) const { require_below_one(path, "momentum", momentum); }

std::vector<StateSpec> Sgd::states() const {
  if (momentum.largest() == 0) return {};
  return {{.name = "momentum", .content = Content::moment}};
}

void Sgd::move(core::Queue& queue, const StepFacts& facts, const core::Tensor& master, const GradientSum& gradient,
               std::span<const core::Tensor> states) const {
  MUONP_ASSERT(states.size() == this->states().size(), "{} states of sgd", states.size());
  const SgdParams params{momentum.at(facts.step), is_ema(momentum_form), nesterov, facts.weight_decay};
  sgd_update(queue, params, facts.lr, facts.gradient_scale, master, gradient.values,
             states.empty() ? core::Tensor() : states[0]);
}

void sgd_update(core::Queue& queue, const SgdParams& params, double lr, double gradient_scale, const core::Tensor& master,
                const core::Tensor& gradient, const core::Tensor& momentum) {
  const std::int64_t n = master.size();
  MUONP_ASSERT(gradient.size() == n, "{} weights, {} gradients", n, gradient.size());
  const auto keep = static_cast<float>(1 - lr * params.weight_decay), rate = static_cast<float>(lr);
  float* w = master.data<float>();
  const float* gradients = gradient.data<float>();
  if (params.momentum == 0) {
    const auto scale = static_cast<float>(gradient_scale);
    return core::for_each(queue, n, Descend{w, gradients, keep, rate, scale});
  }
  MUONP_ASSERT(momentum.size() == n, "{} weights, {} momentum", n, momentum.size());
  const auto scale = static_cast<float>(params.ema ? gradient_scale * (1 - params.momentum) : gradient_scale);
  const auto mu = static_cast<float>(params.momentum);
  const float own = params.nesterov ? 1.0f : 0.0f, ahead = params.nesterov ? mu : 1.0f;
  core::for_each(queue, n, DescendWithMomentum{w, momentum.data<float>(), gradients, keep, rate, scale, mu, own, ahead});
}

}  // namespace muonp::optim
