#include "optim/spectral/narrow_power.h"

#include <algorithm>
#include <cmath>
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
    return part_bytes({rows, cols}, {rows, cols});
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
    Products products(device, count, g.first.rows, g.first.cols);
    return run(device, {g.first.rows, g.first.cols}, count, g, z, products);
  }

  Outcome share(core::Device& device, const Size& whole, const Input& input, const core::MatrixView& z,
                Sharers& sharers) const override {
    Products products(device, 1, whole.rows, whole.cols, &sharers);
    const Together one = run(device, whole, 1, {input.g}, {z}, products);
    if (!std::isfinite(one.results.front()))
      core::fail("spectral power, {} at p = {}: a matrix [{}, {}]: the result is not finite in {}", options().method,
                 to_string(options().p), whole.rows, whole.cols, name_of(options().dtype));
    return one.outcomes.front();
  }
  int shared_numbers() const override { return 3; }  // the norm once more, and that of the result
  std::optional<ProductCount> product_count(std::int64_t rows, std::int64_t cols) const override {
    const NarrowCost cost = schedule(rows, cols)->forecast.cost;
    return ProductCount{.halves = cost.symmetric, .grams = cost.grams, .longs = cost.longs};
  }
  std::int64_t part_bytes(const Size& whole, const Size& part) const override {
    if (whole.rows == 0 || whole.cols == 0) return 0;
    const NarrowCost cost = schedule(whole.rows, whole.cols)->forecast.cost;
    return NarrowMatrices::bytes(std::min(whole.rows, whole.cols), part.rows, part.cols, options().dtype,
                                 cost.small_matrices, cost.long_matrices);
  }

 private:
  // Of matrices of the size `whole`, of which g and z are what the products have.
  Together run(core::Device& device, const Size& whole, std::int64_t count, const core::StridedBatch& g,
               const core::StridedBatch& z, Products& products) const {
    const auto s = schedule(whole.rows, whole.cols);
    NarrowMatrices matrices(device, options().dtype, scaling_, count, whole.rows * whole.cols, g, z, products);
    NarrowSteps<NarrowMatrices>(matrices, options().p, s->plan).run();
    Scales& scales = matrices.scales();
    scales.gain(options().p.value(), z);
    return measured(scales, z,
                    {.steps = core::to_int(s->degrees.size()),
                     .restarts = core::to_int(s->plan.rebuilds.size()),
                     .predicted_error = s->forecast.error(whole.rows, whole.cols),
                     .flops = products.flops() / static_cast<double>(count)});
  }

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
