#include "optim/spectral/spectral_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/math.h"
#include "core/base/rng.h"
#include "core/device/blas.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "optim/spectral/gradient_norm.h"

namespace muonp::optim {

namespace {

constexpr int kSteps = 24;
using core::MatrixView;
using core::Op;
using core::Tensor;

struct Divide {
  float* x;
  double by;
  using Elements = core::ElementArrays<&Divide::x>;
  MUONP_HD void operator()(std::int64_t i) const { x[i] = static_cast<float>(x[i] / by); }
};

// Divides by the Euclidean norm, which is returned; a zero vector is left alone.
double normalise(core::Queue& queue, const Tensor& x) {
  const double norm = std::sqrt(sum_of_squares(queue, x).sum);
  if (norm > 0) core::for_each(queue, x.size(), Divide{x.data<float>(), norm});
  return norm;
}

// Eigenvalues of the symmetric tridiagonal matrix that are below x (Sturm count).
int count_below(const std::vector<double>& diagonal, const std::vector<double>& off_squared, double x, double tiny) {
  int below = 0;
  double pivot = 1;
  for (std::size_t i = 0; i < diagonal.size(); ++i) {
    pivot = diagonal[i] - x - (i == 0 ? 0.0 : off_squared[i - 1] / pivot);
    if (std::abs(pivot) < tiny) pivot = -tiny;
    below += pivot < 0;
  }
  return below;
}

double largest_eigenvalue(const std::vector<double>& diagonal, const std::vector<double>& off_squared) {
  double low = 0, high = 0;
  for (std::size_t i = 0; i < diagonal.size(); ++i) {
    low = std::max(low, diagonal[i]);
    high = std::max(high, diagonal[i] + (i > 0 ? std::sqrt(off_squared[i - 1]) : 0.0) +
                              (i + 1 < diagonal.size() ? std::sqrt(off_squared[i]) : 0.0));
  }
  const double tiny = 1e-30 * high;
  for (int i = 0; i < 60 && low < high; ++i) {
    const double middle = (low + high) / 2;
    (count_below(diagonal, off_squared, middle, tiny) == core::to_int(diagonal.size()) ? high : low) = middle;
  }
  return low;
}

// Of the upper bidiagonal k × (k + 1) matrix with these diagonals.
double largest_singular_value(const std::vector<double>& alpha, const std::vector<double>& beta) {
  // Relative to the largest entry, so that squares neither underflow nor overflow.
  const double unit = std::max(*std::max_element(alpha.begin(), alpha.end()), *std::max_element(beta.begin(), beta.end()));
  if (unit == 0) return 0;
  std::vector<double> diagonal, off_squared;
  for (std::size_t i = 0; i < alpha.size(); ++i) {
    const double a = alpha[i] / unit, b = beta[i] / unit;
    diagonal.push_back(a * a + b * b);
    if (i > 0) off_squared.push_back(std::pow(a * beta[i - 1] / unit, 2));
  }
  return unit * std::sqrt(largest_eigenvalue(diagonal, off_squared));
}

}  // namespace

double spectral_norm(core::Queue& queue, const core::Tensor& matrix) {
  MUONP_ASSERT(matrix.rank() == 2, "shape {}", core::to_string(matrix.shape()));
  if (matrix.size() == 0) return 0;
  const std::int64_t rows = matrix.dim(0), cols = matrix.dim(1);
  core::Device& device = queue.device();
  const Tensor right = Tensor::empty(device, {cols, 1}, core::Dtype::float32, core::Category::exchange);
  const Tensor left = Tensor::zeros(device, {rows, 1}, core::Dtype::float32, core::Category::exchange);
  const core::HostView start(queue, right, core::Access::write);
  for (std::int64_t i = 0; i < cols; ++i) start.data<float>()[i] = core::normal(0, 0, static_cast<std::uint64_t>(i));
  start.upload();
  // y ← op(G)·x − shift·y
  const auto multiply = [&](Op op, const Tensor& x, double shift, const Tensor& y) {
    core::gemm(queue, op, Op::none, 1, MatrixView(matrix), MatrixView(x), static_cast<float>(-shift), MatrixView(y));
  };
  normalise(queue, right);
  multiply(Op::none, right, 0, left);
  // UᵀG = B Vᵀ with B upper bidiagonal, k × (k + 1): alpha on the diagonal, beta beside it. σ_max(B)² is the
  // largest eigenvalue of BBᵀ, and grows towards σ_max(G)² with k.
  std::vector<double> alpha = {normalise(queue, left)}, beta;
  const int steps = static_cast<int>(std::min<std::int64_t>({kSteps, rows, cols}));
  while (true) {
    multiply(Op::transpose, left, alpha.back(), right);
    beta.push_back(normalise(queue, right));
    const double largest = *std::max_element(alpha.begin(), alpha.end());
    if (core::to_int(alpha.size()) == steps || beta.back() <= 1e-6 * largest) break;
    multiply(Op::none, right, beta.back(), left);
    alpha.push_back(normalise(queue, left));
    if (alpha.back() <= 1e-6 * largest) break;
  }
  beta.resize(alpha.size(), 0.0);
  return largest_singular_value(alpha, beta);
}

}  // namespace muonp::optim
