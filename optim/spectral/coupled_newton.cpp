// The recurrence of BeyondMuon (arXiv 2602.04669 and its public code): G·(GᵀG + ridge)^(−1/4) gives p = 1/2;
// applied twice it gives p = 1/4. The inverse fourth root is two coupled Newton–Schulz square roots, each
// fifteen times
//   T = (3I − Z·Y)/2,  Y ← Y·T,  Z ← T·Z   from Y = A/‖A‖_F, Z = I:   Y → (A/‖A‖)^½, Z → (A/‖A‖)^(−½).
// ridge = 10⁻⁶ + 10⁻⁴·tr A/n, for G scaled to ‖G‖_F = 1. Plain products, as published.
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/device/symmetric.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/methods.h"
#include "optim/spectral/per_matrix.h"
#include "optim/spectral/scratch.h"

namespace muonp::optim::spectral {
namespace {

using core::MatrixView;
using core::Op;

constexpr int kIterations = 15;
constexpr double kRidge = 1e-6, kRelativeRidge = 1e-4;

class CoupledNewton final : public PerMatrix {
 public:
  CoupledNewton(const SpectralOptions& options, int applications) : PerMatrix(options), applications_(applications) {}

  double flops(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols), k = std::max(rows, cols);
    return applications_ * (2 * core::gemm_flops(n, n, k) + 2 * 3 * kIterations * core::gemm_flops(n, n, n));
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols);
    return 2 * Scratch::bytes(rows, cols, options().dtype) + 4 * Scratch::bytes(n, n, options().dtype);
  }

 protected:
  Outcome one(core::Device& device, const Input& input, const MatrixView& z) const override {
    core::Queue& queue = device.queue();
    const std::int64_t rows = input.g.rows, cols = input.g.cols, n = std::min(rows, cols);
    Scratch scratch(device, options().dtype);
    MatrixView x = scratch.matrix(rows, cols), next = scratch.matrix(rows, cols);
    Pair pair{scratch.matrix(n, n), scratch.matrix(n, n), scratch.matrix(n, n), scratch.matrix(n, n)};
    copy_scaled(queue, input.g, input.factor / input.norm, x);
    for (int i = 0; i < applications_; ++i) {
      plain_gram(queue, x, pair.y);
      const double trace = core::symmetric_moments(queue, pair.y, pair.y)[0];
      affine(queue, static_cast<float>(kRidge + kRelativeRidge * trace / static_cast<double>(n)), 1, pair.y);
      const double first = square_root(queue, pair);  // A^½ = √first·Y
      affine(queue, 0, static_cast<float>(std::sqrt(first)), pair.y);
      const double second = square_root(queue, pair);  // A^(−¼) = Z/√second
      multiply_small(queue, static_cast<float>(1 / std::sqrt(second)), x, pair.z, 0, next);
      std::swap(x, next);
    }
    const double norm = std::sqrt(squared_norm(queue, x));
    if (!std::isfinite(norm)) core::fail("the coupled Newton iteration diverged: its result is not finite");
    copy_scaled(queue, x, gain(input, input.norm), z);
    Outcome outcome;
    outcome.scale = input.norm;
    outcome.steps = applications_ * 2 * kIterations;
    outcome.flops = flops(rows, cols);
    return outcome;
  }

 private:
  struct Pair {
    MatrixView y, z, t, spare;
  };

  // y holds A; afterwards y ≈ (A/s)^½ and z ≈ (A/s)^(−½) for the returned s = ‖A‖_F.
  static double square_root(core::Queue& queue, Pair& m) {
    const double norm = std::sqrt(squared_norm(queue, m.y));
    affine(queue, 0, static_cast<float>(1 / norm), m.y);
    queue.fill_zero(m.z.data, m.z.rows * m.z.stride * core::size_of(m.z.dtype));
    affine(queue, 1, 0, m.z);
    for (int i = 0; i < kIterations; ++i) {
      core::gemm(queue, Op::none, Op::none, -0.5f, m.z, m.y, 0, m.t);
      affine(queue, 1.5f, 1, m.t);
      core::gemm(queue, Op::none, Op::none, 1, m.y, m.t, 0, m.spare);
      std::swap(m.y, m.spare);
      core::gemm(queue, Op::none, Op::none, 1, m.t, m.z, 0, m.spare);
      std::swap(m.z, m.spare);
    }
    return norm;
  }

  int applications_;
};

}  // namespace

Method make_coupled_newton(const SpectralOptions& options) {
  if (options.p == Exponent{1, 2}) return std::make_unique<CoupledNewton>(options, 1);
  if (options.p == Exponent{1, 4}) return std::make_unique<CoupledNewton>(options, 2);
  core::fail("coupled_newton computes p = 1/2 and 1/4 only, not p = {}; coupled_minimax and svd do every p",
             to_string(options.p));
}

}  // namespace muonp::optim::spectral
