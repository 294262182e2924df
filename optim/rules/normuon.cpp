#include "optim/rules/normuon.h"

#include "core/device/for_each.h"
#include "optim/spectral/scales.h"

namespace muonp::optim {

namespace {

struct NormalizeRow {
  float *o, *v;
  float beta2, own, eps;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float* x = o + row.index * row.cols;
    const float before = v[row.index];
    const float squares = row.sum([](float value) { return value * value; }, x);  // all threads have read v when it is there
    const float mean = beta2 * before + own * squares / static_cast<float>(row.cols);
    v[row.index] = mean;
    const float by = mean > 0 ? 1 / (sqrtf(mean) + eps) : 0.0f;
    row.over([=](float& value) { value *= by; }, x);
  }
};

class NorMuonStep final : public OwnerStep {
 public:
  NorMuonStep(const NorMuon& rule, std::unique_ptr<SpectralStep> polar)
      : OwnerStep(rule.states_of(Home::owner), std::move(polar)), beta2_(rule.beta2), eps_(rule.eps) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    normalize_rows(device.queue(), beta2_.at(b.facts.step), eps_, b.out, b.states[0]);
    scale_updates(device.queue(), ShapeScale::match_rms, 0, b.in, b.out, squares_of_normalized(device.queue(), b.out));
  }
  double flops(std::int64_t rows, std::int64_t cols) const override { return 4 * static_cast<double>(rows * cols); }

 private:
  core::StepValue beta2_;
  double eps_;
};

}  // namespace

void normalize_rows(core::Queue& queue, double beta2, double eps, const core::Tensor& o, const core::Tensor& v) {
  core::for_each_row(queue, o.dim(0) * o.dim(1), o.dim(2),
                     NormalizeRow{o.data<float>(), v.data<float>(), static_cast<float>(beta2), static_cast<float>(1 - beta2),
                                  static_cast<float>(eps)});
}

core::Tensor squares_of_normalized(core::Queue& queue, const core::Tensor& o) {
  if (queue.kind() == core::DeviceKind::cpu) return {};
  core::Tensor squares = spectral::numbers(queue.device(), o.dim(0));
  spectral::sums_of_squares(queue, o.dim(0), dense(o), static_cast<double*>(squares.raw()));
  return squares;
}

void NorMuon::describe(core::Fields& f) {
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean square of each row, below 1");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean square of a row");
  SpectralRule::describe(f);
}

void NorMuon::validate(const std::string& path) const {
  require_below_one(path, "beta2", beta2);
  SpectralRule::validate(path);
}

std::vector<StateSpec> NorMuon::states() const {
  return {{.name = "momentum", .content = Content::moment},
          {.name = "row_squares", .form = Form::rows, .home = Home::owner}};
}

std::unique_ptr<MatrixStep> NorMuon::matrix_step(core::DeviceKind device) const {
  return std::make_unique<NorMuonStep>(*this, spectral_step(device, ShapeScale::none));
}

}  // namespace muonp::optim
