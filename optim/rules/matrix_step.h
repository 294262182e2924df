// The spectral step of one group on whole matrices: from the momentum N that was gathered on the owner to the
// update that the learning rate multiplies. Splits, stacks and shape scales are applied here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"
#include "core/device/tensor.h"
#include "optim/rules/muonp.h"
#include "optim/rules/split.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::optim {

struct MatrixInput {
  std::string name;              // of the parameter, for messages
  core::Shape shape;             // [rows, cols] or [count, rows, cols], as the model declares it
  const Split* split = nullptr;  // of a fused parameter; null: none
  core::Tensor in, out;  // float32, element_count(shape) elements in row-major order; no tensor overlaps another
};

class MatrixStep {
 public:
  MatrixStep(std::unique_ptr<spectral::SpectralPower> power, ShapeScale scale);

  // out = factor·U Sᵖ Vᵀ of every matrix of every input, each with a factor of its own; `in` is unchanged.
  // Matrices of one shape go through the spectral power as one batch where they lie one after the other in
  // memory, in and out alike, or are small enough that copying them together is cheap; a batch may differ
  // from single calls in the last bit. Parameters without elements are left out. An Error of the method names
  // the parameter; every `out` is then unspecified.
  void compute(core::Device& device, std::span<const MatrixInput> inputs);

  // Floating-point operations of one parameter's step.
  double cost(std::string_view name, const core::Shape& shape, const Split* split) const;
  // Most bytes of scratch memory that compute() takes for these inputs, whose tensors are not looked at: no two are taken
  // to lie one after the other.
  std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const;

  const spectral::SpectralOptions& options() const { return power_->options(); }
  ShapeScale scale() const { return scale_; }

 private:
  struct Segment;
  static std::vector<Segment> segments_of(std::span<const MatrixInput> inputs);
  static std::vector<std::span<const Segment>> batches_of(std::span<const Segment> segments);
  void compute_packed(core::Device& device, std::span<const Segment> segments);
  void compute_batch(core::Device& device, std::span<const Segment> segments, const core::Tensor& in,
                     const core::Tensor& out);
  void apply(core::Device& device, const core::Tensor& in, const core::Tensor& out);

  std::unique_ptr<spectral::SpectralPower> power_;
  ShapeScale scale_;
};

}  // namespace muonp::optim
