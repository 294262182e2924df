// What all methods share: checks, batches, zero matrices, non-finite input, and scaling G by a power of two
// so that neither its Gram matrix nor that one's square leaves the range of float32.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "core/device/blas.h"
#include "optim/spectral/schedule.h"
#include "optim/spectral/spectral_power.h"

namespace muonp::optim::spectral {

class Scales;

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

struct Size {
  std::int64_t rows, cols;
};

class PerMatrix : public SpectralPower {
 public:
  explicit PerMatrix(const SpectralOptions& options) : options_(options) {}
  SpectralReport apply(core::Device& device, const core::Tensor& g, const core::Tensor& z) final;
  SpectralPlan plan(std::int64_t rows, std::int64_t cols) const override;  // of full products
  const SpectralOptions& options() const final { return options_; }
  std::optional<SharedWork> shared_work(std::int64_t rows, std::int64_t cols, int sharers) const final;
  void apply_share(core::Device& device, std::int64_t rows, std::int64_t cols, const core::Tensor& g, const core::Tensor& z,
                   Sharers& sharers) final;
  std::int64_t share_workspace_bytes(std::int64_t rows, std::int64_t cols, int sharers) const final;

 protected:
  // Methods whose matrices can be shared: their products; one() of a part, whose input has factor and norm of the whole; and
  // workspace_bytes() of a part.
  virtual std::optional<ProductCount> product_count(std::int64_t /*rows*/, std::int64_t /*cols*/) const {
    return std::nullopt;
  }
  virtual int shared_numbers() const { return 1; }  // that sharers sum in a run: the norm of the input
  virtual Outcome share(core::Device& device, const Size& whole, const Input& input, const core::MatrixView& z,
                        Sharers& sharers) const;
  virtual std::int64_t part_bytes(const Size& whole, const Size& part) const;
  // z (float32, dense) = U Sᵖ Vᵀ of G: that of G·factor/scale, for the scale of the returned outcome, times
  // gain(input, scale). core::Error where the method diverged.
  virtual Outcome one(core::Device& device, const Input& input, const core::MatrixView& z) const = 0;
  // Where takes_together(): every z of its G itself, zero or not finite though some may be; the norms of G, ‖Z‖_F² (on the
  // device too), and the rest as of one(), the scales by what G itself was divided.
  struct Together {
    std::vector<Outcome> outcomes;
    std::vector<double> norms, results;
    core::Tensor squares;
  };
  virtual Together all(core::Device& device, std::int64_t count, const core::StridedBatch& g,
                       const core::StridedBatch& z) const;
  // What all() returns of its results z; `each`: every outcome but for its scale. Waits for the device.
  static Together measured(Scales& scales, const core::StridedBatch& z, const Outcome& each);
  // (scale/factor)ᵖ
  double gain(const Input& input, double scale) const;

 private:
  std::vector<Outcome> outcomes_of(core::Device& device, const core::Tensor& g, const core::Tensor& z) const;
  Together together(core::Device& device, const core::Tensor& g, const core::Tensor& z) const;
  Outcome one_of_batch(core::Device& device, const core::Tensor& g, const core::Tensor& z, std::int64_t index) const;

  SpectralOptions options_;
};

}  // namespace muonp::optim::spectral
