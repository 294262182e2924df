// LoRA-Muon (arXiv 2606.12921) with a spectral power: each factor of an adapter s·B·A moves so that the product does. With
// N the momentum of a factor and R = (AAᵀ)^(-1/2), L = (BᵀB)^(-1/2):
//
//   Z_B = spectral power of N_B·R,   dB = f/(2s)·Z_B·R       so that s·dB·A = f/2·Z_B·(R·A), and R·A has orthonormal rows
//   Z_A = spectral power of L·N_A,   dA = f/(2s)·L·Z_A
//
// f is the shape scale of Z as an update of the product [m, n]. What moves the product does not depend on how B·A is
// factored. Eigenvalues of a Gram matrix below kLeastEigenvalue of the largest count as that, so that a direction which the
// other factor hardly has is not moved without bound; a factor beside a zero one does not move.
#pragma once

#include <memory>

#include "optim/rules/spectral_step.h"

namespace muonp::optim {

inline constexpr double kLeastEigenvalue = 1e-6;

class PairStep final : public MatrixStep {
 public:
  // plain: of parameters that are no factors; unscaled: the same with ShapeScale::none.
  PairStep(std::unique_ptr<SpectralStep> plain, std::unique_ptr<SpectralStep> unscaled, ShapeScale scale)
      : plain_(std::move(plain)), unscaled_(std::move(unscaled)), scale_(scale) {}

  void compute(core::Device& device, std::int64_t step, std::span<const MatrixInput> inputs) override;
  double cost(std::string_view name, const core::Shape& shape, const Split* split) const override;
  core::Dtype product_dtype() const override { return plain_->product_dtype(); }
  std::int64_t workspace_bytes(std::span<const MatrixInput> inputs) const override;

 private:
  std::unique_ptr<SpectralStep> plain_, unscaled_;
  ShapeScale scale_;
};

}  // namespace muonp::optim
