// What all methods share: checks, batches, zero matrices, non-finite input, and scaling G by a power of two
// so that neither its Gram matrix nor that one's square leaves the range of float32.
#pragma once

#include <cstdint>
#include <limits>

#include "core/device/blas.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::optim::spectral {

struct Outcome {     // of one matrix
  double scale = 0;  // what G·2^−exponent was divided by
  int steps = 0, restarts = 0;
  double predicted_error = std::numeric_limits<double>::quiet_NaN();
  double flops = 0;
};

// One matrix G, finite and not zero, and what brings its Frobenius norm into [1/2, 1).
struct Input {
  core::MatrixView g;
  double factor = 1;  // a power of two
  double norm = 0;    // ‖G·factor‖_F
};

class PerMatrix : public SpectralPower {
 public:
  explicit PerMatrix(const SpectralOptions& options) : options_(options) {}
  SpectralReport apply(core::Device& device, const core::Tensor& g, const core::Tensor& z) final;
  const SpectralOptions& options() const final { return options_; }

 protected:
  // z (float32, dense) = U Sᵖ Vᵀ of G: that of G·factor/scale, for the scale of the returned outcome, times
  // gain(input, scale). core::Error where the method diverged.
  virtual Outcome one(core::Device& device, const Input& input, const core::MatrixView& z) const = 0;
  // (scale/factor)ᵖ
  double gain(const Input& input, double scale) const;

 private:
  Outcome one_of_batch(core::Device& device, const core::Tensor& g, const core::Tensor& z, std::int64_t index) const;

  SpectralOptions options_;
};

}  // namespace muonp::optim::spectral
