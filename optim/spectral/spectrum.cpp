#include "optim/spectral/spectrum.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/index.h"
#include "core/device/for_each.h"
#include "core/device/host_view.h"
#include "core/device/symmetric.h"
#include "optim/spectral/eigenvalues.h"
#include "optim/spectral/elementwise.h"
#include "optim/spectral/scratch.h"

namespace muonp::optim::spectral {

namespace {

using core::at;
using core::MatrixView;

constexpr std::int64_t kKinds = 3;  // momentum, update, weight
// Elements of Gram matrices that are made together: a CPU's threads take one each, a GPU wants many to be busy.
constexpr std::int64_t kTogether = 1 << 22, kTogetherOnGpu = 1 << 25;

double quantile(std::span<const double> ascending, double q) {
  const double place = q * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, ascending.size() - 1);
  return std::lerp(ascending[below], ascending[above], place - static_cast<double>(below));
}

}  // namespace

Spectrum spectrum_of(std::span<const double> squares, double norm) {
  const double sum = std::accumulate(squares.begin(), squares.end(), 0.0);
  Spectrum s;
  s.norm = norm;
  if (!(sum > 0)) return s;
  std::vector<double> sigma;
  double entropy = 0;
  for (const double square : squares) {
    sigma.push_back(std::sqrt(square));
    if (square > 0) entropy -= square / sum * std::log(square / sum);
  }
  s.stable_rank = norm * norm / squares.back();
  s.effective_rank = std::exp(entropy);
  s.nuclear_ratio = std::accumulate(sigma.begin(), sigma.end(), 0.0) / norm;
  for (std::size_t i = 0; i < kQuantiles.size(); ++i) s.sigma[i] = quantile(sigma, kQuantiles[i]);
  return s;
}

namespace {

// Of row r: Σ x y in double precision.
struct RowProducts {
  const float *x, *y;
  std::int64_t x_stride, y_stride;
  double* sums;

  MUONP_ROW_KERNEL void operator()(const R& row) const {
    const float *p = x + row.index * x_stride, *q = y + row.index * y_stride;
    sums[row.index] = row.sum([](float a, float b) { return static_cast<double>(a) * b; }, p, q);
  }
};

double inner_product_of(core::Queue& queue, const MatrixView& x, const MatrixView& y) {
  core::HostResult<double> of_row(queue, x.rows);
  core::for_each_row(queue, x.rows, x.cols,
                     RowProducts{static_cast<const float*>(x.data), static_cast<const float*>(y.data), x.stride, y.stride,
                                 of_row.to_write()});
  const std::vector<double>& sums = of_row.read();
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

const MatrixView& view_of(const Measured& m, std::int64_t kind) {
  return kind == 0 ? m.momentum : kind == 1 ? m.update : m.weight;
}

// Matrices whose Gram matrices are of one size n, and these: that of each kind of each.
class Batch {
 public:
  Batch(core::Device& device, std::span<const Measured> all, std::span<const int> chosen)
      : device_(device),
        queue_(device.queue()),
        scratch_(device, core::Dtype::float32),
        n_(all[at(chosen.front())].small()) {
    for (const int i : chosen) matrices_.push_back(all[at(i)]);
    grams_ = scratch_.matrices(kKinds * std::ssize(chosen), n_, n_);
  }

  std::vector<Spectra> measure() {
    for (std::int64_t g = 0; g < grams(); ++g) make_gram(g);
    std::vector<Spectra> spectra(matrices_.size());
    for (std::size_t i = 0; i < matrices_.size(); ++i) spectra[i].alignment = alignment(i);
    const std::vector<float> values = symmetric_eigenvalues(queue_, grams(), grams_);
    for (std::int64_t g = 0; g < grams(); ++g) {
      if (!std::isfinite(norms_[at(g)])) continue;
      Spectra& s = spectra[at(g / kKinds)];
      (g % kKinds == 0   ? s.momentum
       : g % kKinds == 1 ? s.update
                         : s.weight) = spectrum(norms_[at(g)], std::span(values).subspan(at(g * n_), at(n_)));
    }
    return spectra;
  }

 private:
  std::int64_t grams() const { return kKinds * std::ssize(matrices_); }

  // Of the matrix divided by its norm; zeros where it has none.
  void make_gram(std::int64_t g) {
    const MatrixView& view = view_of(matrices_[at(g / kKinds)], g % kKinds);
    const double norm = std::sqrt(squared_norm(queue_, view));
    norms_.push_back(norm);
    const MatrixView to = grams_[g];
    if (norm == 0 || !std::isfinite(norm)) return queue_.fill_zero(to.data, to.rows * to.stride * core::size_of(to.dtype));
    // Beyond, squares of elements may leave float32's range.
    if (norm > 0x1p-40 && norm < 0x1p40)
      return core::gram(queue_, gram_side(view), static_cast<float>(1 / (norm * norm)), view, to);
    Scratch own(device_, core::Dtype::float32);
    const MatrixView scaled = own.matrix(view.rows, view.cols);
    copy_scaled(queue_, view, 1 / norm, scaled);
    core::gram(queue_, gram_side(view), 1, scaled, to);
  }

  std::optional<Alignment> alignment(std::size_t i) const {
    const auto first = static_cast<std::int64_t>(i) * kKinds;
    const double of_n = norms_[at(first)], of_w = norms_[at(first + 2)];
    if (!std::isfinite(of_n) || !std::isfinite(of_w)) return std::nullopt;
    if (of_n == 0 || of_w == 0) return Alignment{};
    const double inner = inner_product_of(queue_, matrices_[i].momentum, matrices_[i].weight);
    return Alignment{inner / of_n / of_w, correlation(grams_[first], grams_[first + 2])};
  }

  // Of two Gram matrices of trace 1. Where ‖G‖² is that of a multiple of I but for rounding, nothing leads.
  double correlation(const MatrixView& x, const MatrixView& y) const {
    const auto [trace, xx, xy, yy] = core::symmetric_moments(queue_, x, y);
    const double mean = 1 / static_cast<double>(n_);
    const double of_x = xx - mean, of_y = yy - mean, rounding = 0x1p-20 * mean;
    return of_x > rounding && of_y > rounding ? std::clamp((xy - mean) / std::sqrt(of_x * of_y), -1.0, 1.0) : 0;
  }

  Spectrum spectrum(double norm, std::span<const float> eigenvalues) const {
    std::vector<double> squares;
    const double least = kResolution * kResolution * std::sqrt(static_cast<double>(n_)) * eigenvalues.back();
    for (const float value : eigenvalues) squares.push_back(value < least ? 0 : norm * norm * value);
    return spectrum_of(squares, norm);
  }

  core::Device& device_;
  core::Queue& queue_;
  Scratch scratch_;
  std::int64_t n_;
  std::vector<Measured> matrices_;
  core::StridedBatch grams_;
  std::vector<double> norms_;  // by Gram matrix
};

std::int64_t most_together(std::int64_t n, core::DeviceKind device) {
  const std::int64_t elements = device == core::DeviceKind::cuda ? kTogetherOnGpu : kTogether;
  return std::max<std::int64_t>(1, elements / (kKinds * n * n));
}

// Indices of the matrices with elements, those with Gram matrices of one size together, in parts that fit.
std::vector<std::vector<int>> batches_of(std::span<const Measured> matrices, core::DeviceKind device) {
  std::vector<int> order;
  for (int i = 0; i < static_cast<int>(matrices.size()); ++i)
    if (matrices[at(i)].small() > 0) order.push_back(i);
  std::ranges::stable_sort(order, {}, [&](int i) { return matrices[at(i)].small(); });
  std::vector<std::vector<int>> batches;
  for (const int i : order) {
    const std::int64_t n = matrices[at(i)].small();
    const bool fits = !batches.empty() && matrices[at(batches.back().front())].small() == n &&
                      std::ssize(batches.back()) < most_together(n, device);
    if (!fits) batches.emplace_back();
    batches.back().push_back(i);
  }
  return batches;
}

}  // namespace

std::vector<Spectra> measure_spectra(core::Device& device, std::span<const Measured> matrices) {
  std::vector<Spectra> spectra(matrices.size(), Spectra{Spectrum{}, Spectrum{}, Spectrum{}, Alignment{}});
  for (const std::vector<int>& chosen : batches_of(matrices, device.kind())) {
    const std::vector<Spectra> found = Batch(device, matrices, chosen).measure();
    for (std::size_t i = 0; i < chosen.size(); ++i) spectra[at(chosen[i])] = found[i];
  }
  return spectra;
}

double spectra_flops(std::int64_t rows, std::int64_t cols, core::DeviceKind device) {
  const std::int64_t n = std::min(rows, cols);
  if (n == 0) return 0;
  const auto elements = static_cast<double>(rows * cols), square = static_cast<double>(n * n);
  return kKinds * (core::symmetric_flops(n, std::max(rows, cols), device) + symmetric_eigenvalues_flops(n, device) +
                   2 * elements) +
         2 * elements + 3 * square;
}

std::int64_t spectra_bytes(std::span<const Measured> matrices, core::DeviceKind device) {
  std::int64_t most = 0;
  for (const std::vector<int>& chosen : batches_of(matrices, device)) {
    const std::int64_t n = matrices[at(chosen.front())].small(), count = kKinds * std::ssize(chosen);
    std::int64_t scaled = 0;
    for (const int i : chosen)
      scaled = std::max(scaled,
                        Scratch::bytes(matrices[at(i)].momentum.rows, matrices[at(i)].momentum.cols, core::Dtype::float32));
    most = std::max(
        most, Scratch::bytes(count * n, n, core::Dtype::float32) + count * symmetric_eigenvalues_bytes(n, device) + scaled);
  }
  return most;
}

}  // namespace muonp::optim::spectral
