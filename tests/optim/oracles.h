// What the optimizer tests compare with: float64 singular value decompositions and a spectral power made of
// them.
#pragma once

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/device/tensor.h"
#include "optim/spectral/spectral_power.h"
#include "tests/support/test_device.h"

namespace muonp::optim::oracle {

using Doubles = std::vector<double>;

struct Svd {  // of a row-major rows × cols matrix; k = min(rows, cols)
  std::int64_t rows = 0, cols = 0;
  Doubles u, s, vt;  // [rows, k], [k] descending, [k, cols]
};

inline Svd svd(const Doubles& a, std::int64_t rows, std::int64_t cols) {
  const std::int64_t k = std::min(rows, cols);
  Svd d{.rows = rows, .cols = cols, .u = Doubles(rows * k), .s = Doubles(k), .vt = Doubles(k * cols)};
  Doubles copy = a;
  const int info = LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', static_cast<int>(rows), static_cast<int>(cols), copy.data(),
                                  static_cast<int>(cols), d.s.data(), d.u.data(), static_cast<int>(k), d.vt.data(),
                                  static_cast<int>(cols));
  if (info != 0) core::fail("dgesdd returned {}", info);
  return d;
}

// U diag(s) Vᵀ with other singular values.
inline Doubles compose(const Svd& d, const Doubles& s) {
  const auto k = static_cast<std::int64_t>(s.size());
  Doubles a(d.rows * d.cols, 0.0);
  for (std::int64_t i = 0; i < d.rows; ++i)
    for (std::int64_t l = 0; l < k; ++l)
      for (std::int64_t j = 0; j < d.cols; ++j) a[i * d.cols + j] += d.u[i * k + l] * s[l] * d.vt[l * d.cols + j];
  return a;
}

// U Sᵖ Vᵀ, where singular values below 1e-7 of the largest count as zero and stay zero.
inline Doubles spectral_power(const Doubles& a, std::int64_t rows, std::int64_t cols, double p) {
  if (p == 1) return a;
  const Svd d = svd(a, rows, cols);
  Doubles s = d.s;
  for (double& value : s) value = value > 1e-7 * d.s[0] && value > 0 ? std::pow(value, p) : 0.0;
  return compose(d, s);
}

inline double power_sum(const Doubles& s, double exponent) {
  double sum = 0;
  for (const double value : s) sum += value > 0 ? std::pow(value, exponent) : 0.0;
  return sum;
}

inline double dot(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
inline double norm(const Doubles& a) { return std::sqrt(dot(a, a)); }

inline double relative_difference(const Doubles& a, const Doubles& b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares) / norm(b);
}

inline Doubles random(std::int64_t n, std::uint64_t stream) {
  Doubles x(n);
  for (std::int64_t i = 0; i < n; ++i) x[i] = core::normal(17, stream, i);
  return x;
}

// Whole numbers in [−8, 8].
inline Doubles random_integers(std::int64_t n, std::uint64_t stream) {
  Doubles x(n);
  for (std::int64_t i = 0; i < n; ++i) x[i] = static_cast<double>(core::random_below(17, stream, i, 17)) - 8;
  return x;
}

inline core::Tensor tensor(core::Device& device, core::Shape shape, const Doubles& values) {
  const core::Tensor t = core::Tensor::empty(device, std::move(shape), core::Dtype::float32, core::Category::other);
  test::set_values(t, std::vector<float>(values.begin(), values.end()));
  return t;
}
inline core::Tensor tensor(core::Device& device, const Doubles& values) {
  return tensor(device, {static_cast<std::int64_t>(values.size())}, values);
}
inline std::vector<float> floats(const core::Tensor& t) { return test::values_of(t); }
inline Doubles doubles(const core::Tensor& t) {
  const std::vector<float> values = floats(t);
  return {values.begin(), values.end()};
}

// The contract of spectral_power.h kept by a decomposition in double precision. Remembers what it was asked;
// a matrix whose first entry is `poison` fails as a method that diverged does.
class SvdPower final : public spectral::SpectralPower {
 public:
  explicit SvdPower(spectral::Exponent p) { options_.p = p; }

  spectral::SpectralReport apply(core::Device&, const core::Tensor& g, const core::Tensor& z) override {
    calls.push_back(g.shape());
    const std::int64_t rows = g.dim(-2), cols = g.dim(-1), count = g.size() / (rows * cols);
    for (std::int64_t i = 0; i < count; ++i) {
      const core::Tensor in = g.flat(i * rows * cols, rows * cols), out = z.flat(i * rows * cols, rows * cols);
      if (test::value_of(in) == poison) core::fail("matrix {} of {} diverged", i, count);
      const Doubles result = spectral_power(doubles(in), rows, cols, options_.p.value());
      test::set_values(out, std::vector<float>(result.begin(), result.end()));
    }
    return {};
  }
  spectral::SpectralPlan plan(std::int64_t, std::int64_t) const override { return {}; }
  double flops(std::int64_t rows, std::int64_t cols) const override {
    return static_cast<double>(rows * cols * std::min(rows, cols));
  }
  std::int64_t workspace_bytes(std::int64_t rows, std::int64_t cols) const override { return 4 * rows * cols; }
  void apply_share(core::Device&, std::int64_t, std::int64_t, const core::Tensor&, const core::Tensor&,
                   spectral::Sharers&) override {
    throw core::InternalError("matrices are taken whole");
  }
  std::int64_t share_workspace_bytes(std::int64_t, std::int64_t, int) const override { return 0; }
  const spectral::SpectralOptions& options() const override { return options_; }

  std::vector<core::Shape> calls;
  float poison = NAN;

 private:
  spectral::SpectralOptions options_;
};

}  // namespace muonp::optim::oracle
