#include "optim/spectral/narrow_power.h"

#include <map>
#include <mutex>
#include <utility>

#include "core/base/remember.h"
#include "optim/spectral/per_matrix.h"

namespace muonp::optim::spectral {
namespace {

class NarrowPower final : public PerMatrix {
 public:
  NarrowPower(const SpectralOptions& options, Scaling scaling, ChooseSchedule choose)
      : PerMatrix(options), scaling_(scaling), choose_(std::move(choose)) {
    schedule(1, 1);
  }

  SpectralPlan plan(std::int64_t rows, std::int64_t cols) const override {
    const auto s = schedule(rows, cols);
    return {s->degrees, s->plan.rebuilds, s->plan.keep_t, s->forecast.cost.products(rows, cols),
            s->forecast.error(rows, cols)};
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    if (rows == 0 || cols == 0) return 0;
    return schedule(rows, cols)->forecast.cost.flops(rows, cols, core::DeviceKind::cpu);
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override {
    if (rows == 0 || cols == 0) return 0;
    const NarrowCost cost = schedule(rows, cols)->forecast.cost;
    return NarrowMatrices::bytes(rows, cols, options().dtype, cost.small_matrices, cost.long_matrices);
  }
  bool takes_together(core::DeviceKind device) const override { return device == core::DeviceKind::cuda; }

 protected:
  Outcome one(core::Device& device, const Input& input, const core::MatrixView& z) const override {
    Outcome outcome = all(device, 1, {input.g}, {z}).outcomes.front();
    outcome.scale *= input.factor;
    return outcome;
  }

  Together all(core::Device& device, std::int64_t count, const core::StridedBatch& g,
               const core::StridedBatch& z) const override {
    const auto s = schedule(g.first.rows, g.first.cols);
    NarrowMatrices matrices(device, options().dtype, scaling_, count, g, z);
    NarrowSteps<NarrowMatrices>(matrices, options().p, s->plan).run();
    Scales& scales = matrices.scales();
    scales.gain(options().p.value(), z);
    scales.measure(z);
    Together together;
    together.squares = scales.results();
    for (const Scales::OfMatrix& of : scales.read()) {
      together.norms.push_back(of.norm);
      together.results.push_back(of.result);
      together.outcomes.push_back({.scale = of.scale,
                                   .steps = core::to_int(s->degrees.size()),
                                   .restarts = core::to_int(s->plan.rebuilds.size()),
                                   .predicted_error = s->forecast.error(g.first.rows, g.first.cols),
                                   .flops = matrices.flops() / static_cast<double>(count)});
    }
    return together;
  }

 private:
  std::shared_ptr<const NarrowSchedule> schedule(std::int64_t rows, std::int64_t cols) const {
    std::lock_guard lock(mutex_);
    return core::remember(schedules_, {rows, cols}, [&] { return choose_(rows, cols); });
  }

  Scaling scaling_;
  ChooseSchedule choose_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, std::shared_ptr<const NarrowSchedule>> schedules_;
};

}  // namespace

Method make_narrow_power(const SpectralOptions& options, Scaling scaling, ChooseSchedule choose) {
  return std::make_unique<NarrowPower>(options, scaling, std::move(choose));
}

}  // namespace muonp::optim::spectral
