#include "optim/rules/adaptive_step.h"

#include "core/device/host_view.h"
#include "optim/rules/adaptive_exponent.h"
#include "optim/spectral/singular_values.h"

namespace muonp::optim {

using spectral::Exponent;

namespace {

// Each matrix as a batch of its own, in the order of its states.
std::vector<MatrixBatch> matrices_of(std::string_view name, const core::Shape& shape, const Split* split) {
  std::vector<MatrixBatch> matrices;
  for (MatrixBatch batch : matrix_batches(name, shape, split))
    for (std::int64_t i = 0, count = batch.count; i < count; ++i) {
      batch.count = 1;
      matrices.push_back(batch);
      batch.offset += batch.apart;
    }
  return matrices;
}

}  // namespace

// By matrix.
std::vector<double> AdaptiveStep::best_of(core::Queue& queue, const MatrixInput& input) const {
  const core::HostView in(queue, input.in, core::Access::read);
  std::vector<HostMatrix> matrices;
  for (const MatrixBatch& m : matrices_of(input.name, input.shape, input.split))
    matrices.push_back({in.data<float>() + m.offset, m.rows, m.cols, m.pitch});
  std::vector<std::vector<double>> sigma;
  try {
    sigma = singular_values(queue, matrices);
  } catch (const core::Error& error) {
    core::fail("parameter {}, p: adaptive: {}", input.name, error.what());
  }
  std::vector<double> best;
  for (std::size_t i = 0; i < matrices.size(); ++i)
    best.push_back(
        best_exponent(sigma[i], matrices[i].rows, matrices[i].cols, settings_.candidates, settings_.curvature).value());
  return best;
}

void AdaptiveStep::choose(core::Queue& queue, bool first, const MatrixInput& input) const {
  const std::vector<double> best = best_of(queue, input);
  const core::HostView p(queue, input.states[0], core::Access::write),
      smooth(queue, input.states[1], core::Access::read_write);
  for (std::size_t i = 0; i < best.size(); ++i) {
    float& kept = smooth.data<float>()[i];
    kept = static_cast<float>(first ? best[i] : settings_.smoothing * kept + (1 - settings_.smoothing) * best[i]);
    p.data<float>()[i] = static_cast<float>(nearest_of(settings_.candidates, kept).value());
  }
  p.upload();
  smooth.upload();
}

std::vector<Exponent> AdaptiveStep::chosen(core::Queue& queue, const MatrixInput& input) const {
  const core::HostView p(queue, input.states[0], core::Access::read);
  std::vector<Exponent> exponents;
  for (const float value : p.span<float>()) exponents.push_back(nearest_of(settings_.candidates, value));
  return exponents;
}

void AdaptiveStep::compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) {
  SpectralStep::EachExponent exponents;
  for (const MatrixInput& input : inputs) {
    MUONP_ASSERT(input.states.size() == 2, "{} has {} states", input.name, input.states.size());
    if (input.in.size() > 0 && settings_.chooses(step)) choose(device.queue(), step == 1, input);
    exponents.push_back(chosen(device.queue(), input));
  }
  power_->compute_each(device, inputs, exponents);
}

double AdaptiveStep::cost(std::string_view name, const core::Shape& shape, const Split* split) const {
  double measured = 0;
  for (const MatrixBatch& m : matrices_of(name, shape, split)) measured += singular_values_flops(m.rows, m.cols);
  return power_->cost(name, shape, split) + measured / static_cast<double>(settings_.every);
}

}  // namespace muonp::optim
