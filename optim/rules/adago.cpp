#include "optim/rules/adago.h"

#include <algorithm>

#include "core/device/for_each.h"
#include "optim/spectral/scales.h"

namespace muonp::optim {

namespace {

// Of each matrix its v², and the factor α/η on its update.
struct Accumulate {
  float* squares;
  double* factors;
  double norm, lr, eps;  // norm: min(‖G‖, γ)

  MUONP_HD void operator()(std::int64_t i) const {
    const double v2 = squares[i] + norm * norm;
    squares[i] = static_cast<float>(v2);
    const double alpha = v2 > 0 ? lr * norm / sqrt(v2) : 0.0;
    factors[i] = lr > 0 ? (alpha > eps ? alpha : eps) / lr : 0.0;
  }
};

class AdaGOStep final : public OwnerStep {
 public:
  AdaGOStep(const AdaGO& rule, std::unique_ptr<SpectralStep> polar)
      : OwnerStep(rule.states_of(Home::owner), std::move(polar)), gamma_(rule.gamma), eps_(rule.eps) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    const core::Tensor factors = spectral::numbers(device, b.count());
    auto* by = static_cast<double*>(factors.raw());
    core::for_each(device.queue(), b.count(),
                   Accumulate{b.states[0].data<float>(), by, std::min(b.facts.gradient_norm, gamma_), b.facts.lr, eps_});
    spectral::multiply_by(device.queue(), b.count(), dense(b.out), by);
  }
  double flops(std::int64_t rows, std::int64_t cols) const override { return static_cast<double>(rows * cols); }
  std::int64_t scratch_bytes(std::int64_t, std::int64_t) const override { return 8; }

 private:
  double gamma_, eps_;
};

}  // namespace

void AdaGO::describe(core::Fields& f) {
  f.real("gamma", gamma, {.min = 0}, "largest norm of a parameter's gradient that counts");
  f.real("eps", eps, {.min = 0}, "least step size, whatever the schedule says");
  SpectralRule::describe(f);
}

std::vector<StateSpec> AdaGO::states() const {
  return {{.name = "momentum", .content = Content::moment},
          {.name = "norm_squares", .form = Form::scalar, .home = Home::owner}};
}

std::unique_ptr<MatrixStep> AdaGO::matrix_step(core::DeviceKind device) const {
  return std::make_unique<AdaGOStep>(*this, spectral_step(device, ShapeScale::none));
}

}  // namespace muonp::optim
