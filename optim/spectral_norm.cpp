#include "optim/spectral_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/for_each.h"
#include "core/rng.h"

namespace muonp::optim {

namespace {

constexpr int kSteps = 24;
constexpr std::int64_t kColumnBlock = 64;  // columns of one task of Gᵀu

using Vector = std::vector<float>;

struct Matrix {
  const float* data;
  std::int64_t rows, cols;
};

// y ← G x − shift·y
void multiply(core::Queue& queue, const Matrix& g, const Vector& x, double shift, Vector& y) {
  const float *matrix = g.data, *from = x.data();
  float* to = y.data();
  const auto keep = static_cast<float>(shift);
  core::for_each_row(queue, g.rows, g.cols, [=](const core::Row& row) {
    const float* entries = matrix + row.index * row.cols;
    to[row.index] = row.sum([=](std::int64_t c) { return entries[c] * from[c]; }) - keep * to[row.index];
  });
}

// y ← Gᵀ x − shift·y
void multiply_transposed(core::Queue& queue, const Matrix& g, const Vector& x, double shift, Vector& y) {
  const float *matrix = g.data, *from = x.data();
  float* to = y.data();
  const std::int64_t rows = g.rows, cols = g.cols;
  const auto keep = static_cast<float>(shift);
  const std::int64_t blocks = (cols + kColumnBlock - 1) / kColumnBlock;
  core::for_each_row(queue, blocks, rows * kColumnBlock, [=](const core::Row& block) {
    const std::int64_t begin = block.index * kColumnBlock, width = std::min(kColumnBlock, cols - begin);
    float sums[kColumnBlock] = {};
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* entries = matrix + r * cols + begin;
      for (std::int64_t c = 0; c < width; ++c) sums[c] += entries[c] * from[r];
    }
    for (std::int64_t c = 0; c < width; ++c) to[begin + c] = sums[c] - keep * to[begin + c];
  });
}

// Divides by the Euclidean norm, which is returned; a zero vector is left alone.
double normalise(Vector& x) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * value;
  const double norm = std::sqrt(squares);
  if (norm > 0)
    for (float& value : x) value = static_cast<float>(value / norm);
  return norm;
}

// Eigenvalues of the symmetric tridiagonal matrix that are below x (Sturm count).
int count_below(const std::vector<double>& diagonal, const std::vector<double>& off_squared, double x,
                double tiny) {
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
    (count_below(diagonal, off_squared, middle, tiny) == static_cast<int>(diagonal.size()) ? high : low) =
        middle;
  }
  return low;
}

// Of the upper bidiagonal k × (k + 1) matrix with these diagonals.
double largest_singular_value(const std::vector<double>& alpha, const std::vector<double>& beta) {
  // Relative to the largest entry, so that squares neither underflow nor overflow.
  const double unit =
      std::max(*std::max_element(alpha.begin(), alpha.end()), *std::max_element(beta.begin(), beta.end()));
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
  const Matrix g{matrix.data<float>(), matrix.dim(0), matrix.dim(1)};
  Vector right(static_cast<std::size_t>(g.cols)), left(static_cast<std::size_t>(g.rows), 0.0f);
  for (std::size_t i = 0; i < right.size(); ++i) right[i] = core::normal(0, 0, i);
  normalise(right);
  multiply(queue, g, right, 0, left);
  // UᵀG = B Vᵀ with B upper bidiagonal, k × (k + 1): alpha on the diagonal, beta beside it. σ_max(B)² is the
  // largest eigenvalue of BBᵀ, and grows towards σ_max(G)² with k.
  std::vector<double> alpha = {normalise(left)}, beta;
  const int steps = static_cast<int>(std::min<std::int64_t>({kSteps, g.rows, g.cols}));
  while (true) {
    multiply_transposed(queue, g, left, alpha.back(), right);
    beta.push_back(normalise(right));
    const double largest = *std::max_element(alpha.begin(), alpha.end());
    if (static_cast<int>(alpha.size()) == steps || beta.back() <= 1e-6 * largest) break;
    multiply(queue, g, right, beta.back(), left);
    alpha.push_back(normalise(left));
    if (alpha.back() <= 1e-6 * largest) break;
  }
  beta.resize(alpha.size(), 0.0);
  return largest_singular_value(alpha, beta);
}

}  // namespace muonp::optim
