#include "optim/spectral/spectral_norm.h"

#include <algorithm>
#include <cmath>

#include "core/base/rng.h"
#include "core/device/for_each.h"
#include "optim/spectral/scales.h"

namespace muonp::optim {

namespace {

constexpr std::int64_t kSteps = 24;
using core::MatrixView;
using core::Op;
using core::StridedBatch;
using core::Tensor;

// The same vector for every matrix, with a share of every direction. Uniform numbers have the same bits on every device.
struct Start {
  float* x;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float* p = x + row.index * row.cols;
    row.each([=](std::int64_t c) { p[c] = core::uniform(0, 0, static_cast<std::uint64_t>(c)) - 0.5f; });
  }
};

// Of each matrix: its norm is ‖x‖, x ← x/‖x‖, and y ← −‖x‖·y, to which the next product is added. A norm of at most 1e-6 of
// the largest alpha is one of rounding: the recursion of this matrix ends, for x and y become zero, and with them all that
// follow.
struct Normalise {
  float *x, *y;
  std::int64_t length_of_y;
  const double* alpha;  // `found` of each matrix
  std::int64_t found, count;
  double* norms;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    float* p = x + row.index * row.cols;
    double norm = sqrt(row.sum([](float value) { return double(value) * double(value); }, p));
    double largest = 0;
    for (std::int64_t k = 0; k < found; ++k) {
      const double value = alpha[k * count + row.index];
      largest = value > largest ? value : largest;
    }
    if (norm <= 1e-6 * largest) norm = 0;
    norms[row.index] = norm;
    row.over([=](float& value) { value = norm > 0 ? static_cast<float>(value / norm) : 0.0f; }, p);
    row.part(length_of_y)
        .over([=](float& value) { value = static_cast<float>(-norm * value); }, y + row.index * length_of_y);
  }
};

// σ_max of B, upper bidiagonal, [steps, steps + 1], with alpha on the diagonal and beta beside it. Its square is the largest
// eigenvalue of BBᵀ, which is tridiagonal: by bisection.
struct LargestSingularValue {
  double *alpha, *beta;  // become the diagonal of BBᵀ, and the squares of what stands beside it in the row before
  std::int64_t steps, count;
  double* result;

  // Whether x is above all eigenvalues: every pivot of BBᵀ − x is negative.
  MUONP_HD bool is_above(double x, std::int64_t i) const {
    constexpr double kTiny = 1e-30;  // a pivot of rounding is taken as negative
    double pivot = -1;
    for (std::int64_t k = i; k < steps * count; k += count) {
      pivot = alpha[k] - x - beta[k] / pivot;
      if (pivot >= kTiny) return false;
      if (pivot > -kTiny) pivot = -kTiny;
    }
    return true;
  }

  MUONP_HD void operator()(std::int64_t i) const {
    double unit = 0;
    for (std::int64_t k = i; k < steps * count; k += count) unit = fmax(unit, fmax(alpha[k], beta[k]));
    // Relative to the largest entry, so that squares neither underflow nor overflow. The eigenvalue is then between the
    // largest entry of the diagonal, which is at least 1, and 4, since rows and columns have two entries of at most 1.
    double low = 0, high = 4, before = 0;
    for (std::int64_t k = i; unit > 0 && k < steps * count; k += count) {
      const double a = alpha[k] / unit, b = beta[k] / unit;
      alpha[k] = a * a + b * b;
      beta[k] = a * before * a * before;
      low = fmax(low, alpha[k]);
      before = b;
    }
    for (int halved = 0; halved < 56; ++halved) {
      const double middle = (low + high) / 2;
      (is_above(middle, i) ? high : low) = middle;
    }
    result[i] = unit * sqrt(low);
  }
};

}  // namespace

Tensor spectral_norms(core::Queue& queue, std::int64_t count, const StridedBatch& matrices) {
  const std::int64_t rows = matrices.first.rows, cols = matrices.first.cols, steps = std::min({kSteps, rows, cols});
  MUONP_ASSERT(matrices.first.dtype == core::Dtype::float32 && steps > 0, "[{}, {}] in {}", rows, cols,
               name_of(matrices.first.dtype));
  core::Device& device = queue.device();
  const Tensor right = Tensor::empty(device, {count, cols}, core::Dtype::float32, core::Category::exchange);
  const Tensor left = Tensor::empty(device, {count, rows}, core::Dtype::float32, core::Category::exchange);
  const Tensor entries = spectral::numbers(device, 2 * steps * count), norms = spectral::numbers(device, count);
  auto *alpha = static_cast<double*>(entries.raw()), *beta = alpha + steps * count;
  const auto normalise = [&](const Tensor& x, const Tensor& y, std::int64_t length_of_y, std::int64_t found, double* to) {
    core::for_each_row(queue, count, x.dim(1),
                       Normalise{x.data<float>(), y.data<float>(), length_of_y, alpha, found, count, to});
  };
  // y ← op(G)·x + keep·y
  const auto multiply = [&](Op op, const Tensor& x, float keep, const Tensor& y) {
    const auto column = [](const Tensor& v) { return StridedBatch{{v.raw(), v.dim(1), 1, 1}, v.dim(1)}; };
    core::gemm_batched(queue, count, op, Op::none, 1, matrices, column(x), keep, column(y));
  };
  core::for_each_row(queue, count, cols, Start{right.data<float>()});
  normalise(right, left, 0, 0, beta);  // a norm that nobody reads
  multiply(Op::none, right, 0, left);
  // UᵀG = B Vᵀ. σ_max(B) grows towards σ_max(G) with every step.
  for (std::int64_t k = 0; k < steps; ++k) {
    normalise(left, right, cols, k, alpha + k * count);
    multiply(Op::transpose, left, 1, right);
    normalise(right, left, rows, k + 1, beta + k * count);
    if (k + 1 < steps) multiply(Op::none, right, 1, left);
  }
  core::for_each(queue, count, LargestSingularValue{alpha, beta, steps, count, static_cast<double*>(norms.raw())});
  return norms;
}

double spectral_norm(core::Queue& queue, const Tensor& matrix) {
  MUONP_ASSERT(matrix.rank() == 2, "shape {}", core::to_string(matrix.shape()));
  if (matrix.size() == 0) return 0;
  const Tensor norms = spectral_norms(queue, 1, {MatrixView(matrix), matrix.size()});
  double norm = 0;
  queue.read(&norm, norms.raw(), std::int64_t{sizeof norm});
  return norm;
}

}  // namespace muonp::optim
