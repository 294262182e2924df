// Z = U Sᵖ Vᵀ of G = U S Vᵀ, for one matrix or a batch of one shape, by the recurrence of the chosen method.
// docs/numerics.md derives them; the sources are named beside each method.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"
#include "core/device/tensor.h"
#include "optim/spectral/exponent.h"
#include "optim/spectral/sharers.h"

namespace muonp::optim::spectral {

inline constexpr std::string_view kMethods[] = {
    "coupled_minimax", "newton_schulz5", "symmetric_newton_schulz5", "gram_newton_schulz",
    "polar_express",   "bivariate",      "coupled_newton",           "svd"};
// Whether a method knows p = 0 only. Error for one that is none.
bool is_polar_only(std::string_view method);
// Whether it does Muon's steps, as many as are asked for. Error likewise.
bool is_stopped_after_steps(std::string_view method);

struct SpectralOptions {
  std::string method = "coupled_minimax";
  Exponent p{1, 2};
  double epsilon = 1e-3;    // singular values in [ε·scale, scale] are exact to `tolerance`; smaller ones come out smaller
  double tolerance = 0.01;  // relative error of σᵖ that coupled_minimax is designed for (narrow_schedule.h: of 16 bits)
  core::Dtype dtype = core::Dtype::float32;  // storage of the iterates (tf32: as products read them); sums are float32
  int steps = 5;                             // of methods with is_stopped_after_steps(), in whose names five are usual
};

// The storage that a setting names on a device: float32, tf32, float16, bfloat16, or auto: float16 on a GPU where the
// method can use it, otherwise float32. Error for a name that is none, or that the device cannot multiply.
inline constexpr std::string_view kStorages[] = {"auto", "float32", "tf32", "float16", "bfloat16"};
core::Dtype parse_storage(std::string_view name, std::string_view method, core::DeviceKind device);

// The ε of a setting that is 0: 1e-2 in fewer bits than float32's at p > 0, where learning was seen not to notice, else 1e-3
// (docs/numerics.md).
double epsilon_or_default(double epsilon, Exponent p, core::Dtype dtype);

struct SpectralReport {       // of one call
  std::vector<double> scale;  // per matrix: the bound on σ_max that G was divided by; 0 for a zero matrix
  int steps = 0, restarts = 0;
  double predicted_error = 0;  // relative error of σᵖ on [ε, 1]: the design's, and in 16 bits and tf32 that of rounding; NaN
                               // where the method has no bound
  double flops = 0;      // as executed, whole batch
  core::Tensor squares;  // where matrices are taken together: ‖Z‖_F² of each, finite, doubles in the device's memory
};

// What apply() does to one matrix.
struct SpectralPlan {
  std::vector<int> degrees;   // of the steps' polynomials of the Gram matrix; none of a method that has no such steps
  std::vector<int> rebuilds;  // the Gram matrix is formed anew after these steps, 1 the first
  bool keep_t = false;        // the factor of Z is gathered on the small side over all of them
  double products = 0;        // n×n×n, n = min(rows, cols); those whose result is symmetric count half
  double predicted_error = std::numeric_limits<double>::quiet_NaN();  // as SpectralReport's
};

class SpectralPower {
 public:
  virtual ~SpectralPower() = default;
  // g, z: [batch, rows, cols] or [rows, cols], float32, on the queue's device; z may not overlap g; g is unchanged.
  // z = U Sᵖ Vᵀ of each g itself (not of a scaled one). A zero matrix gives a zero matrix. A non-finite entry of g, or
  // a result of a method that diverged, is a core::Error that names the matrix of the batch, and z is then unspecified.
  // Where matrices are taken together z is finite otherwise.
  virtual SpectralReport apply(core::Device& device, const core::Tensor& g, const core::Tensor& z) = 0;
  virtual SpectralPlan plan(std::int64_t rows, std::int64_t cols) const = 0;  // rows, cols ≥ 1
  // Of one matrix: floating-point operations, and bytes of scratch memory that apply() takes for a batch of one.
  virtual double flops(std::int64_t rows, std::int64_t cols) const = 0;  // of the CPU; a GPU's blocks are wider
  virtual std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const = 0;
  // Whether apply() takes the matrices of a batch together on such a device, each with scratch memory of its own, and not in
  // turn.
  virtual bool takes_together(core::DeviceKind /*device*/) const { return false; }

  // What it takes that ranks share a matrix [rows, cols] (sharers.h); none where this method takes matrices whole.
  virtual std::optional<SharedWork> shared_work(std::int64_t /*rows*/, std::int64_t /*cols*/, int /*sharers*/) const {
    return std::nullopt;
  }
  // apply() of one matrix [rows, cols] of which g and z are this rank's part, dense: rows part_begin(rows, sharers, rank) up
  // to the next one's, or columns where there are more of them. The same as the whole to rounding. A matrix with an entry
  // that is not finite is an Error on all sharers. Collective.
  virtual void apply_share(core::Device& device, std::int64_t rows, std::int64_t cols, const core::Tensor& g,
                           const core::Tensor& z, Sharers& sharers) = 0;
  // Bytes of scratch memory that this takes of the rank among sharers that takes most.
  virtual std::int64_t share_workspace_bytes(std::int64_t rows, std::int64_t cols, int sharers) const = 0;

  virtual const SpectralOptions& options() const = 0;
};

// Error for an unknown method, or an exponent or dtype that the method cannot do (it lists what it can). apply() refuses
// a dtype that its device cannot multiply.
std::unique_ptr<SpectralPower> make_spectral_power(const SpectralOptions& options);

}  // namespace muonp::optim::spectral
