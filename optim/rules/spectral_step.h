// The spectral step of one group on whole matrices: from the momentum N that was gathered on the owner to the
// update that the learning rate multiplies. Splits, stacks and shape scales are applied here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "optim/rules/exponents.h"
#include "optim/rules/muonp.h"

namespace muonp::optim {

class SpectralStep final : public MatrixStep {
 public:
  // One exponent at every step.
  SpectralStep(std::unique_ptr<spectral::SpectralPower> power, ShapeScale scale,
               core::DeviceKind device = core::DeviceKind::cpu);
  // Exponents that are a function of the step. Of `options` all but p counts.
  SpectralStep(const spectral::SpectralOptions& options, const Exponents& exponents, ShapeScale scale,
               core::DeviceKind device = core::DeviceKind::cpu);
  // An exponent for each matrix, one of these: for compute_each().
  SpectralStep(const spectral::SpectralOptions& options, std::span<const spectral::Exponent> candidates, ShapeScale scale,
               core::DeviceKind device = core::DeviceKind::cpu);

  // out = factor·U Sᵖ Vᵀ of every matrix of every input, each with a factor of its own. Matrices of one shape go through the
  // spectral power as one batch where they lie one after the other in memory, in and out alike, or where copying them
  // together is cheap: small ones, and on a GPU all whose power takes batches together. A batch may differ from single calls
  // in the last bit.
  void compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) override;
  // The same with exponents of each input's matrices, in the order of matrix_batches().
  using EachExponent = std::vector<std::vector<spectral::Exponent>>;
  void compute_each(core::Device& device, std::span<const MatrixInput> inputs, const EachExponent& exponents);
  // Of the exponents that occur, the most that one takes, here and in workspace_bytes(): owners are chosen once.
  double cost(std::string_view name, const core::Shape& shape, const Split* split) const override;
  // The exponent at a step.
  double exponent(std::int64_t step) const { return exponents_ ? exponents_->at(step).value() : only_.value(); }
  core::Dtype product_dtype() const override { return powers_.front()->options().dtype; }
  std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const override;
  std::optional<spectral::SharedWork> shared_work(std::string_view name, const core::Shape& shape, const Split* split,
                                                  int sharers) const override;
  void compute_share(core::Device& device, std::int64_t step, const MatrixInput& input, spectral::Sharers& sharers) override;
  std::int64_t share_workspace_bytes(const MatrixInput& input, int sharers) const override;

 private:
  struct Segment;
  // exponents: of each input's matrices; null: of no matter.
  std::vector<Segment> segments_of(std::span<const MatrixInput> inputs, const EachExponent* exponents) const;
  static std::vector<Segment> merged(std::vector<Segment> segments);
  std::vector<std::span<const Segment>> batches_of(std::span<const Segment> segments) const;
  bool takes_together() const;
  std::int64_t most_together(const MatrixBatch& shape) const;
  spectral::SpectralPower& power_of(spectral::Exponent p) const;
  void compute(core::Device& device, std::vector<Segment> segments);
  void compute_packed(core::Device& device, std::span<const Segment> segments);
  void compute_batch(core::Device& device, std::span<const Segment> segments, const core::Tensor& in,
                     const core::Tensor& out);
  void apply(core::Device& device, spectral::SpectralPower& power, const core::Tensor& in, const core::Tensor& out);

  std::vector<std::unique_ptr<spectral::SpectralPower>> powers_;  // one for each exponent that occurs
  std::optional<Exponents> exponents_;
  spectral::Exponent only_;  // where they are no function of the step
  bool each_ = false;        // matrices have exponents of their own
  ShapeScale scale_;
  core::DeviceKind device_;
};

}  // namespace muonp::optim
