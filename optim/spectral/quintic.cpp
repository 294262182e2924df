// Polar factor by odd quintic polynomials, plain products, on the smaller Gram side:
//   X ← X·(a I + b A + c A²), A = XᵀX (or from the left with XXᵀ), X₀ = G/‖G‖_F
// newton_schulz5: five steps with one set of coefficients (Muon, Jordan 2024). polar_express: coefficients of
// each step minimax for the interval that the step before leaves (arXiv 2505.16932).
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/base/index.h"
#include "core/base/math.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/methods.h"
#include "optim/spectral/minimax.h"
#include "optim/spectral/per_matrix.h"
#include "optim/spectral/quintic.h"
#include "optim/spectral/scales.h"
#include "optim/spectral/schedule.h"
#include "optim/spectral/scratch.h"

namespace muonp::optim::spectral {
namespace {

using core::MatrixView;
using core::Op;
using core::StridedBatch;

// Rounding and the Frobenius norm's own rounding may leave σ_max a little above 1.
constexpr double kCushion = 0.01;

class QuinticIteration final : public PerMatrix {
 public:
  QuinticIteration(const SpectralOptions& options, std::vector<Quintic> steps, double predicted_error)
      : PerMatrix(options), steps_(std::move(steps)), predicted_error_(predicted_error) {}

  SpectralPlan plan(std::int64_t rows, std::int64_t cols) const override {
    SpectralPlan plan = PerMatrix::plan(rows, cols);
    plan.degrees.assign(steps_.size(), 2);
    for (int k = 1; k < core::to_int(steps_.size()); ++k) plan.rebuilds.push_back(k);
    plan.predicted_error = predicted_error_;
    return plan;
  }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols), k = std::max(rows, cols);
    return static_cast<double>(steps_.size()) * (2 * core::gemm_flops(n, n, k) + core::gemm_flops(n, n, n));
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols);
    return 2 * Scratch::bytes(rows, cols, options().dtype) + 2 * Scratch::bytes(n, n, options().dtype);
  }

  bool takes_together(core::DeviceKind device) const override { return device == core::DeviceKind::cuda; }

 protected:
  Outcome one(core::Device& device, const Input& input, const MatrixView& z) const override {
    Outcome outcome = outcome_of(input.g);
    outcome.scale = input.norm;
    iterate(device, 1, {input.g}, {z},
            [&](const StridedBatch& x) { copy_scaled(device.queue(), input.g, input.factor / input.norm, x.first); });
    return outcome;
  }

  Together all(core::Device& device, std::int64_t count, const StridedBatch& g, const StridedBatch& z) const override {
    Scales scales(device, count);
    scales.find_factor(g);
    iterate(device, count, g, z, [&](const StridedBatch& x) { scales.copy_by_norm(g, x); });
    return measured(scales, z, outcome_of(g.first));
  }

 private:
  // start(X): what the first step begins with.
  template <class Start>
  void iterate(core::Device& device, std::int64_t count, const StridedBatch& g, const StridedBatch& z,
               const Start& start) const {
    core::Queue& queue = device.queue();
    const std::int64_t rows = g.first.rows, cols = g.first.cols, n = std::min(rows, cols);
    Scratch scratch(device, options().dtype);
    StridedBatch x = scratch.matrices(count, rows, cols), next = scratch.matrices(count, rows, cols);
    const StridedBatch gram = scratch.matrices(count, n, n), weight = scratch.matrices(count, n, n);
    start(x);
    for (std::size_t k = 0; k < steps_.size(); ++k) {
      const Quintic& q = steps_[k];
      plain_gram(queue, count, x, gram);
      core::gemm_batched(queue, count, Op::none, Op::none, 1, gram, gram, 0, weight);
      affine(queue, count, q.a, q.c, weight, q.b, gram.first);
      multiply_small(queue, count, 1, x, weight, 0, k + 1 == steps_.size() ? z : next);
      std::swap(x, next);
    }
  }
  Outcome outcome_of(const MatrixView& g) const {
    Outcome outcome;
    outcome.steps = core::to_int(steps_.size());
    outcome.predicted_error = predicted_error_;
    outcome.flops = flops(g.rows, g.cols);
    return outcome;
  }

  std::vector<Quintic> steps_;
  double predicted_error_;
};

}  // namespace

void require_polar(const SpectralOptions& options) {
  if (options.p != Exponent{0, 1})
    core::fail("{} computes p = 0 only, not p = {}; coupled_minimax and svd do every p", options.method,
               to_string(options.p));
}

Method make_newton_schulz5(const SpectralOptions& options) {
  require_polar(options);
  return std::make_unique<QuinticIteration>(options, std::vector<Quintic>(core::at(std::int64_t{options.steps}), kMuon),
                                            std::numeric_limits<double>::quiet_NaN());
}

Method make_polar_express(const SpectralOptions& options) {
  require_polar(options);
  const double cushion = cushion_of(options.dtype);
  std::vector<int> degrees;
  std::shared_ptr<const Design> design;
  do {
    degrees.push_back(2);
    if (degrees.size() > 16)
      core::fail("polar_express does not reach a tolerance of {} for epsilon {} in 16 steps", options.tolerance,
                 options.epsilon);
    design = cached_design(options.p, options.epsilon, degrees, std::max(kCushion, cushion), cushion);
  } while (design->error > options.tolerance);
  std::vector<Quintic> steps;
  for (const DesignStep& step : design->steps) {
    const auto& c = step.weight.coefficients;
    steps.push_back({static_cast<float>(c[0]), static_cast<float>(c[1]), static_cast<float>(c[2])});
  }
  return std::make_unique<QuinticIteration>(options, std::move(steps), design->error);
}

}  // namespace muonp::optim::spectral
