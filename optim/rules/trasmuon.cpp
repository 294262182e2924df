#include "optim/rules/trasmuon.h"

#include <algorithm>
#include <cmath>

#include "core/base/index.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "optim/rules/normuon.h"

namespace muonp::optim {

using core::Tensor;

namespace {

struct Energy {
  static constexpr int kSums = 1;
  const float* m;
  std::int64_t cols;
  MUONP_COLUMN_KERNEL auto row(std::int64_t r, const Use& use) const {
    return use([](float value, float& sum) { sum += value * value; }, m + r * cols);
  }
};

struct DampColumns {
  float* u;
  const float* factors;  // [count, cols]
  std::int64_t rows;
  MUONP_ROW_KERNEL void operator()(const R& row) const {
    row.over([](float& value, float factor) { value *= factor; }, u + row.index * row.cols,
             factors + row.index / rows * row.cols);
  }
};

double median_of(std::span<const float> values) {
  std::vector<float> sorted(values.begin(), values.end());
  const auto middle = sorted.begin() + std::ssize(sorted) / 2;
  std::ranges::nth_element(sorted, middle);
  if (sorted.size() % 2 == 1) return *middle;
  return (double{*middle} + *std::max_element(sorted.begin(), middle)) / 2;
}

class TrasMuonStep final : public OwnerStep {
 public:
  TrasMuonStep(const TrasMuon& rule, std::unique_ptr<SpectralStep> polar)
      : OwnerStep(rule.states_of(Home::owner), std::move(polar)), rule_(rule) {}

 protected:
  void finish(core::Device& device, const OwnedBatch& b) const override {
    core::Queue& queue = device.queue();
    normalize_rows(queue, rule_.beta2.at(b.facts.step), rule_.eps, b.out, b.states[0]);
    scale_updates(queue, ShapeScale::rms1, 0, b.in, b.out, squares_of_normalized(queue, b.out));
    const Tensor energies = Tensor::empty(device, {b.count(), b.cols()}, core::Dtype::float32, core::Category::exchange);
    for (std::int64_t i = 0; i < b.count(); ++i)
      core::column_sums(queue, b.rows(), b.cols(), core::ColumnTargets<1>{{{energies[i].data<float>(), false}}},
                        Energy{b.in[i].data<float>(), b.cols()});
    damp(queue, energies, b.states[1]);
    core::for_each_row(queue, b.count() * b.rows(), b.cols(),
                       DampColumns{b.out.data<float>(), energies.data<float>(), b.rows()});
  }
  double flops(std::int64_t rows, std::int64_t cols) const override { return 8 * static_cast<double>(rows * cols); }
  std::int64_t scratch_bytes(std::int64_t, std::int64_t cols) const override { return 4 * cols; }

 private:
  // Energies become the factors c. Medians are the host's work.
  void damp(core::Queue& queue, const Tensor& energies, const Tensor& references) const {
    const core::HostView e(queue, energies, core::Access::read_write),
        reference(queue, references, core::Access::read_write);
    const std::int64_t cols = energies.dim(1);
    for (std::int64_t i = 0; i < energies.dim(0); ++i) {
      const std::span<float> of = e.span<float>().subspan(core::at(i * cols), core::at(cols));
      float& r = reference.data<float>()[i];
      const double median = median_of(of);
      r = static_cast<float>(r == 0 ? median : rule_.reference_beta * r + (1 - rule_.reference_beta) * median);
      for (float& value : of) value = static_cast<float>(factor(value, r));
    }
    e.upload();
    reference.upload();
  }
  // Beside an energy of nothing, any is too much.
  double factor(double energy, double reference) const {
    if (energy == 0) return 1;
    return std::clamp(1 / (1 + rule_.alpha * std::log1p(energy / reference)), rule_.c_min, 1.0);
  }

  TrasMuon rule_;
};

}  // namespace

void TrasMuon::describe(core::Fields& f) {
  f.step_value("beta2", beta2, {.min = 0, .max = 1}, "decay of the mean square of each row, below 1");
  f.real("eps", eps, {.min = 0}, "added to the root of the mean square of a row");
  f.real("reference_beta", reference_beta, {.min = 0, .max = 1}, "decay of the median of the columns' energies");
  f.real("alpha", alpha, {.min = 0}, "how much columns of high energy are damped; 0 is not at all");
  f.real("c_min", c_min, {.min = 0, .max = 1}, "smallest factor on a column");
  SpectralRule::describe(f);
}

void TrasMuon::validate(const std::string& path) const {
  require_below_one(path, "beta2", beta2);
  SpectralRule::validate(path);
}

std::vector<StateSpec> TrasMuon::states() const {
  return {{.name = "momentum", .content = Content::moment},
          {.name = "row_squares", .form = Form::rows, .home = Home::owner},
          {.name = "energy_reference", .form = Form::scalar, .home = Home::owner}};
}

std::unique_ptr<MatrixStep> TrasMuon::matrix_step(core::DeviceKind device) const {
  return std::make_unique<TrasMuonStep>(*this, spectral_step(device, ShapeScale::none));
}

}  // namespace muonp::optim
