#include "optim/rules/conda.h"

#include <cmath>

#include "core/device/for_each.h"
#include "optim/rules/eigenbasis.h"
#include "optim/rules/momentum.h"

namespace muonp::optim {

using core::Tensor;

namespace {

// v ← b2·v + a2·g², x ← x/(√v + eps)
struct Precondition {
  float *v, *x;
  const float* g;
  float b2, a2, eps;
  using Elements = core::ElementArrays<&Precondition::v, &Precondition::x, &Precondition::g>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float square = b2 * v[i] + a2 * g[i] * g[i];
    v[i] = square;
    const float denominator = sqrtf(square) + eps;
    x[i] = denominator > 0 || denominator != denominator ? x[i] / denominator : 0.0f;
  }
};

class CondaStep final : public OwnerStep {
 public:
  explicit CondaStep(const Conda& rule) : OwnerStep(rule.states_of(Home::owner)), rule_(rule) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    const Tensor &m = b.states[0], &v = b.states[1], &basis = b.states[2];
    core::Queue& queue = device.queue();
    const std::int64_t t = b.facts.step;
    const double b1 = rule_.beta1.at(t), b2 = rule_.beta2.at(t);
    accumulate(queue, b1, m, 1 - b1, b.in);
    if ((t - 1) % rule_.interval == 0)
      for (std::int64_t i = 0; i < b.count(); ++i)
        gram_eigenvectors(queue, m[i], b.rows() <= b.cols() ? Side::rows : Side::columns, basis[i], b.parameter);
    const Tensor gradient = Tensor::empty(device, b.in.shape(), core::Dtype::float32, core::Category::exchange);
    const Tensor x = Tensor::empty(device, b.in.shape(), core::Dtype::float32, core::Category::exchange);
    rotate_smaller_side(queue, basis, b.in, gradient, Turn::into);
    rotate_smaller_side(queue, basis, m, x, Turn::into);
    core::for_each(queue, x.size(),
                   Precondition{v.data<float>(), x.data<float>(), gradient.data<float>(), static_cast<float>(b2),
                                static_cast<float>(1 - b2), static_cast<float>(rule_.eps)});
    rotate_smaller_side(queue, basis, x, b.out, Turn::back);
    multiply(queue, b.out, rule_.scale * std::sqrt(bias_correction(b2, t)) / bias_correction(b1, t));
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    return 3 * core::gemm_flops(rows, cols, std::min(rows, cols));
  }
  std::int64_t scratch_bytes(std::int64_t rows, std::int64_t cols) const override { return 8 * rows * cols; }

 private:
  Conda rule_;
};

}  // namespace

void Conda::describe(core::Fields& f) {
  f.step_value("beta1", beta1, {.min = 0, .max = 1}, "decay of the mean of gradients, below 1");
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean of squared rotated gradients, below 1");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean of squares");
  f.real("scale", scale, {.min = 0}, "factor on the update");
  f.integer("interval", interval, {.min = 1}, "steps between two decompositions of the momentum");
}

void Conda::validate(const std::string& path) const {
  require_below_one(path, "beta1", beta1);
  require_below_one(path, "beta2", beta2);
}

std::vector<StateSpec> Conda::states() const {
  return {{.name = "m", .form = Form::elements, .home = Home::owner},
          {.name = "v", .form = Form::elements, .home = Home::owner},
          {.name = "basis", .form = Form::square, .home = Home::owner}};
}

std::unique_ptr<MatrixStep> Conda::matrix_step(core::DeviceKind) const { return std::make_unique<CondaStep>(*this); }

}  // namespace muonp::optim
