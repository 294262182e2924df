#include "optim/rules/muon_mvr.h"

#include <algorithm>

#include "core/device/for_each.h"
#include "optim/spectral/scales.h"

namespace muonp::optim {

using core::Tensor;

namespace {

// g ← c = g + ahead·(g − old) of g·scale. approximate: old, which is scaled already, becomes g·scale; exact: old is a sum
// over ranks as g is.
struct Correct {
  float *gradients, *old;
  float scale, ahead;
  bool exact;
  using Elements = core::ElementArrays<&Correct::gradients, &Correct::old>;
  MUONP_HD void operator()(std::int64_t i) const {
    const float g = scale * gradients[i], before = exact ? scale * old[i] : old[i];
    gradients[i] = g + ahead * (g - before);
    if (!exact) old[i] = g;
  }
};

struct AtMostOne {  // the factor that brings a norm to 1 where it is above, in place of its square
  double* squares;
  MUONP_HD void operator()(std::int64_t i) const { squares[i] = squares[i] > 1 ? 1 / sqrt(squares[i]) : 1.0; }
};

class MuonMvrStep final : public OwnerStep {
 public:
  MuonMvrStep(const MuonMvr& rule, std::unique_ptr<SpectralStep> polar)
      : OwnerStep(rule.states_of(Home::owner), std::move(polar)), momentum_(rule.momentum) {}

 protected:
  Tensor prepare(core::Device& device, const OwnedBatch& b) const override {
    core::Queue& queue = device.queue();
    const double mu = momentum_.at(b.facts.step);
    const Tensor c = Tensor::empty(device, b.in.shape(), core::Dtype::float32, core::Category::exchange);
    const Tensor memory = spectral::numbers(device, b.count());
    auto* numbers = static_cast<double*>(memory.raw());
    c.copy_from(queue, b.in);
    spectral::sums_of_squares(queue, b.count(), dense(c), numbers);
    core::for_each(queue, b.count(), AtMostOne{numbers});
    spectral::multiply_by(queue, b.count(), dense(c), numbers);
    accumulate(queue, mu, b.states[0], 1 - mu, c);
    return b.states[0];
  }
  bool prepares() const override { return true; }
  void finish(core::Device&, const OwnedBatch&) const override {}  // the spectral step has scaled what it made
  double flops(std::int64_t rows, std::int64_t cols) const override { return 8 * static_cast<double>(rows * cols); }
  std::int64_t scratch_bytes(std::int64_t rows, std::int64_t cols) const override { return 4 * rows * cols + 8; }

 private:
  core::StepValue momentum_;
};

}  // namespace

void MuonMvr::describe(core::Fields& f) {
  f.step_value("momentum", momentum, {.min = 0, .max = 1}, "momentum factor, below 1");
  f.real("gamma", gamma, {.min = 0},
         "weight of the difference to the gradient of the step before: 0.025 for language, 0.1 for vision");
  f.choice("variant", variant, kMvrVariants,
           "G_old: the gradient of the step before, or of this step's samples at the weights before, by a second pass");
  describe_spectral(f);
}

void MuonMvr::validate(const std::string& path) const {
  if (std::ranges::find(kMvrVariants, variant) == std::end(kMvrVariants))
    core::fail("{}.variant: '{}' is not known; valid are {}", path, variant, fmt::join(kMvrVariants, ", "));
  require_below_one(path, "momentum", momentum);
  require_possible(path, "0");
}

std::vector<StateSpec> MuonMvr::states() const {
  const StateSpec average{.name = "momentum", .form = Form::elements, .home = Home::owner};
  if (!exact()) return {{.name = "previous", .content = Content::moment}, average};
  return {{.name = std::string(kOldGradient)}, {.name = std::string(kOldWeights)}, average};
}

Direction MuonMvr::direction(core::Queue& queue, const StepFacts& facts, const GradientSum& gradient,
                             std::span<const Tensor> states) const {
  const double mu = momentum.at(facts.step);
  const double ahead = facts.step == 1 ? 0 : gamma * mu / (1 - mu);  // the first step has nothing before it
  core::for_each(queue, gradient.values.size(),
                 Correct{gradient.values.data<float>(), states[0].data<float>(), static_cast<float>(facts.gradient_scale),
                         static_cast<float>(ahead), exact()});
  return {gradient.values};
}

std::unique_ptr<MatrixStep> MuonMvr::matrix_step(core::DeviceKind device) const {
  auto polar = std::make_unique<SpectralStep>(spectral::make_spectral_power(spectral_options("0", device)),
                                              ShapeScale::match_rms, device);
  return std::make_unique<MuonMvrStep>(*this, std::move(polar));
}

}  // namespace muonp::optim
