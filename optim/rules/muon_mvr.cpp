#include "optim/rules/muon_mvr.h"

#include "core/device/for_each.h"
#include "optim/spectral/scales.h"

namespace muonp::optim {

using core::Tensor;

namespace {

// previous ← g after c = g + ahead·(g − previous)
struct Correct {
  const float* g;
  float *previous, *c;
  float ahead;
  using Elements = core::ElementArrays<&Correct::g, &Correct::previous, &Correct::c>;
  MUONP_HD void operator()(std::int64_t i) const {
    c[i] = g[i] + ahead * (g[i] - previous[i]);
    previous[i] = g[i];
  }
};

struct AtMostOne {  // the factor that brings a norm to 1 where it is above, in place of its square
  double* squares;
  MUONP_HD void operator()(std::int64_t i) const { squares[i] = squares[i] > 1 ? 1 / sqrt(squares[i]) : 1.0; }
};

class MuonMvrStep final : public OwnerStep {
 public:
  MuonMvrStep(const MuonMvr& rule, std::unique_ptr<SpectralStep> polar)
      : OwnerStep(rule.states_of(Home::owner), std::move(polar)), momentum_(rule.momentum), gamma_(rule.gamma) {}

 protected:
  Tensor prepare(core::Device& device, const OwnedBatch& b) const override {
    const Tensor &previous = b.states[0], &m = b.states[1];
    core::Queue& queue = device.queue();
    const double mu = momentum_.at(b.facts.step);
    const double ahead = b.facts.step == 1 ? 0 : gamma_ * mu / (1 - mu);  // the first step has no gradient before it
    const Tensor c = Tensor::empty(device, b.in.shape(), core::Dtype::float32, core::Category::exchange);
    const Tensor memory = spectral::numbers(device, b.count());
    auto* numbers = static_cast<double*>(memory.raw());
    core::for_each(queue, c.size(),
                   Correct{b.in.data<float>(), previous.data<float>(), c.data<float>(), static_cast<float>(ahead)});
    spectral::sums_of_squares(queue, b.count(), dense(c), numbers);
    core::for_each(queue, b.count(), AtMostOne{numbers});
    spectral::multiply_by(queue, b.count(), dense(c), numbers);
    accumulate(queue, mu, m, 1 - mu, c);
    return m;
  }
  void finish(core::Device& device, const OwnedBatch& b) const override {
    scale_updates(device.queue(), ShapeScale::match_rms, 0, b.states[1], b.out);
  }
  double flops(std::int64_t rows, std::int64_t cols) const override { return 8 * static_cast<double>(rows * cols); }
  std::int64_t scratch_bytes(std::int64_t rows, std::int64_t cols) const override { return 4 * rows * cols + 8; }

 private:
  core::StepValue momentum_;
  double gamma_;
};

}  // namespace

void MuonMvr::describe(core::Fields& f) {
  f.step_value("momentum", momentum, {.min = 0, .max = 1}, "momentum factor, below 1");
  f.real("gamma", gamma, {.min = 0},
         "weight of the difference to the gradient of the step before: 0.025 for language, 0.1 for vision");
  describe_spectral(f);
}

void MuonMvr::validate(const std::string& path) const {
  require_below_one(path, "momentum", momentum);
  require_possible(path, "0");
}

std::vector<StateSpec> MuonMvr::states() const {
  return {{.name = "previous", .form = Form::elements, .home = Home::owner},
          {.name = "momentum", .form = Form::elements, .home = Home::owner}};
}

std::unique_ptr<MatrixStep> MuonMvr::matrix_step(core::DeviceKind device) const {
  auto polar =
      std::make_unique<SpectralStep>(spectral::make_spectral_power(spectral_options("0", device)), ShapeScale::none, device);
  return std::make_unique<MuonMvrStep>(*this, std::move(polar));
}

}  // namespace muonp::optim
