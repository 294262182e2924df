// The spectral step of one group on whole matrices: from the momentum N that was gathered on the owner to the
// update that the learning rate multiplies. Splits, stacks and shape scales are applied here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "optim/rules/muonp.h"

namespace muonp::optim {

class SpectralStep final : public MatrixStep {
 public:
  SpectralStep(std::unique_ptr<spectral::SpectralPower> power, ShapeScale scale,
               core::DeviceKind device = core::DeviceKind::cpu);
  // By rising steps, the first of them 1.
  SpectralStep(std::vector<PowerFrom> powers, ShapeScale scale, core::DeviceKind device = core::DeviceKind::cpu);

  // out = factor·U Sᵖ Vᵀ of every matrix of every input, each with a factor of its own. Matrices of one shape go through the
  // spectral power as one batch where they lie one after the other in memory, in and out alike, or where copying them
  // together is cheap: small ones, and on a GPU all whose power takes batches together. A batch may differ from single calls
  // in the last bit.
  void compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) override;
  double cost(std::string_view name, const core::Shape& shape, const Split* split) const override;
  // The exponent at a step.
  double exponent(std::int64_t step) const { return power_at(step).options().p.value(); }
  core::Dtype product_dtype() const override { return powers_.front().power->options().dtype; }
  std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const override;

 private:
  struct Segment;
  static std::vector<Segment> segments_of(std::span<const MatrixInput> inputs);
  std::vector<std::span<const Segment>> batches_of(std::span<const Segment> segments) const;
  bool takes_together() const;
  std::int64_t most_together(const MatrixBatch& shape) const;
  spectral::SpectralPower& power_at(std::int64_t step) const;
  void compute_packed(core::Device& device, std::span<const Segment> segments);
  void compute_batch(core::Device& device, std::span<const Segment> segments, const core::Tensor& in,
                     const core::Tensor& out);
  void apply(core::Device& device, const core::Tensor& in, const core::Tensor& out);

  std::vector<PowerFrom> powers_;
  ShapeScale scale_;
  core::DeviceKind device_;
  spectral::SpectralPower* power_ = nullptr;  // of the step that is computed
};

}  // namespace muonp::optim
