// The spectral step with an exponent for each matrix, chosen from its spectrum every so many steps
// (optim/rules/adaptive_exponent.h). What was chosen is state of the owner, two scalars a matrix: the exponent in use, and
// the smoothed one that it is the candidate next to.
#pragma once

#include <memory>
#include <vector>

#include "optim/rules/adaptive_exponent.h"
#include "optim/rules/spectral_step.h"

namespace muonp::optim {

class AdaptiveStep final : public MatrixStep {
 public:
  // power: with the candidates as exponents of each matrix.
  AdaptiveStep(std::unique_ptr<SpectralStep> power, AdaptiveSettings settings)
      : power_(std::move(power)), settings_(std::move(settings)) {}

  // Of each input the states are p and its smoothed one, in the order of matrix_batches().
  void compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) override;
  double cost(std::string_view name, const core::Shape& shape, const Split* split) const override;
  core::Dtype product_dtype() const override { return power_->product_dtype(); }
  std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const override {
    return power_->workspace_bytes(inputs);
  }

 private:
  std::vector<double> best_of(core::Queue& queue, const MatrixInput& input) const;
  void choose(core::Queue& queue, bool first, const MatrixInput& input) const;
  std::vector<spectral::Exponent> chosen(core::Queue& queue, const MatrixInput& input) const;

  std::unique_ptr<SpectralStep> power_;
  AdaptiveSettings settings_;
};

}  // namespace muonp::optim
