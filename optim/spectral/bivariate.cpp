// The bivariate recurrence of Muon^p (arXiv 2606.13867 and its public code), kept as published: x = G/‖G‖_F
// stays fixed, y₀ = x, six steps, with powers in the singular-value sense (y³ is Y·YᵀY):
//   1/3, 1/5, 1/7, 1/15   y ← y − c(y^(1/p) − x)        c = 0.66, 0.2, 1/7, 1/15
//   3/5, 13/15            y ← y − c(y^b − x^a)          p = a/b, c = 0.2, 1/15
//   1/2                   y ← y − (y⁴ − x²)(c x + d y)  c = 3, d = −0.795918
// At p = 1/2 it diverges for a singular value between about 0.725 and 0.999 of ‖G‖_F. A result that is not
// finite, or longer than √n as no polar power of singular values in [0, 1] is, is an error.
#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "optim/spectral/elementwise.h"
#include "optim/spectral/methods.h"
#include "optim/spectral/per_matrix.h"
#include "optim/spectral/scratch.h"

namespace muonp::optim::spectral {
namespace {

using core::MatrixView;
using core::Op;

constexpr int kSteps = 6;

struct Coefficients {
  Exponent p;
  float c, d;
};
constexpr Coefficients kPublished[] = {
    {{1, 2}, 3.0f, -0.795918f}, {{1, 3}, 0.66f, 0},      {{1, 5}, 0.2f, 0},        {{1, 7}, 1.0f / 7, 0},
    {{3, 5}, 0.2f, 0},          {{1, 15}, 1.0f / 15, 0}, {{13, 15}, 1.0f / 15, 0},
};

int products_of_power(int k) {
  return k < 2 ? 0 : std::bit_width(static_cast<unsigned>(k)) - 2 + std::popcount(static_cast<unsigned>(k));
}

// One matrix: the small matrices of a step and the running products.
class Bivariate final : public PerMatrix {
 public:
  Bivariate(const SpectralOptions& options, const Coefficients& published) : PerMatrix(options), published_(published) {}

  double flops(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols), k = std::max(rows, cols);
    const double small = core::gemm_flops(n, n, n), full = core::gemm_flops(n, n, k);
    if (half()) return full + kSteps * (3 * full + small);
    const double start = published_.p.numerator == 1 ? 0 : 2 * full + products_of_power(x_power()) * small;
    return start + kSteps * (2 * full + products_of_power(y_power()) * small);
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override {
    const std::int64_t n = std::min(rows, cols);
    return 3 * Scratch::bytes(rows, cols, options().dtype) + 3 * Scratch::bytes(n, n, options().dtype);
  }

 protected:
  Outcome one(core::Device& device, const Input& input, const MatrixView& z) const override {
    core::Queue& queue = device.queue();
    const std::int64_t rows = input.g.rows, cols = input.g.cols, n = std::min(rows, cols);
    Scratch scratch(device, options().dtype);
    const MatrixView x = scratch.matrix(rows, cols);
    MatrixView y = scratch.matrix(rows, cols), next = scratch.matrix(rows, cols);
    Small small{scratch.matrix(n, n), scratch.matrix(n, n), scratch.matrix(n, n)};
    copy_scaled(queue, input.g, input.factor / input.norm, x);
    copy_scaled(queue, x, 1, y);
    if (half())
      plain_gram(queue, x, small.of_x);
    else if (published_.p.numerator != 1)
      raise_x(queue, x, next, small);
    for (int k = 0; k < kSteps; ++k) {
      half() ? half_step(queue, x, y, small, next) : odd_step(queue, x, y, small, next);
      std::swap(y, next);
    }
    check(squared_norm(queue, y), n);
    copy_scaled(queue, y, gain(input, input.norm), z);
    Outcome outcome;
    outcome.scale = input.norm;
    outcome.steps = kSteps;
    outcome.flops = flops(rows, cols);
    return outcome;
  }

 private:
  struct Small {
    MatrixView gram, of_x, spare;  // of_x: XᵀX at p = 1/2, else free
  };

  bool half() const { return published_.p == Exponent{1, 2}; }
  int y_power() const { return (published_.p.denominator - 1) / 2; }  // y^b = Y·(YᵀY)^y_power
  int x_power() const { return (published_.p.numerator - 1) / 2; }

  // power ← gram^k, one of a and b; gram is lost.
  static MatrixView raise(core::Queue& queue, int k, MatrixView gram, MatrixView a, MatrixView b) {
    const auto multiply = [&](const MatrixView& u, const MatrixView& v, const MatrixView& w) {
      core::gemm(queue, Op::none, Op::none, 1, u, v, 0, w);
    };
    // From the highest bit down: square, and multiply by the base where the bit is set.
    MatrixView power = gram;
    for (int bit = std::bit_width(static_cast<unsigned>(k)) - 2; bit >= 0; --bit) {
      multiply(power, power, a);
      power = a;
      std::swap(a, b);
      if (k >> bit & 1) {
        multiply(power, gram, a);
        power = a;
        std::swap(a, b);
      }
    }
    return power;
  }

  // x ← x^a, the fixed term of 3/5 and 13/15; `spare` is a matrix of its shape.
  void raise_x(core::Queue& queue, const MatrixView& x, const MatrixView& spare, const Small& small) const {
    plain_gram(queue, x, small.gram);
    multiply_small(queue, 1, x, raise(queue, x_power(), small.gram, small.of_x, small.spare), 0, spare);
    copy_scaled(queue, spare, 1, x);
  }

  // next = y·(I − c·B^k) + c·x
  void odd_step(core::Queue& queue, const MatrixView& x, const MatrixView& y, const Small& small,
                const MatrixView& next) const {
    plain_gram(queue, y, small.gram);
    const MatrixView weight = raise(queue, y_power(), small.gram, small.of_x, small.spare);
    affine(queue, 1, -published_.c, weight);
    copy_scaled(queue, x, 1, next);
    multiply_small(queue, 1, y, weight, published_.c, next);
  }

  // next = y·(I − d·D) − c·x·D with D = B² − XᵀX
  void half_step(core::Queue& queue, const MatrixView& x, const MatrixView& y, const Small& small,
                 const MatrixView& next) const {
    plain_gram(queue, y, small.gram);
    core::gemm(queue, Op::none, Op::none, 1, small.gram, small.gram, 0, small.spare);
    affine(queue, 0, 1, small.spare, -1, small.of_x);
    multiply_small(queue, -published_.c, x, small.spare, 0, next);
    affine(queue, 1, -published_.d, small.spare);
    multiply_small(queue, 1, y, small.spare, 1, next);
  }

  static void check(double squared, std::int64_t n) {
    const double norm = std::sqrt(squared), bound = std::sqrt(static_cast<double>(n)) * 1.01;
    if (std::isfinite(norm) && norm <= bound) return;
    core::fail(
        "the bivariate recurrence diverged: its result has norm {:.4g}, above the bound √n = {:.4g}. Its published "
        "coefficients do so where one singular value carries most of the norm; method coupled_minimax does not",
        norm, std::sqrt(static_cast<double>(n)));
  }

  Coefficients published_;
};

}  // namespace

Method make_bivariate(const SpectralOptions& options) {
  for (const Coefficients& published : kPublished)
    if (published.p == options.p) return std::make_unique<Bivariate>(options, published);
  core::fail(
      "bivariate has no published coefficients for p = {}; it computes p = 1/15, 1/7, 1/5, 1/3, 1/2, 3/5 and "
      "13/15",
      to_string(options.p));
}

}  // namespace muonp::optim::spectral
