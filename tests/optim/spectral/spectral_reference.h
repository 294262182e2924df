// Matrices with known factors, and U Sᵖ Vᵀ of any matrix, in double precision: independent of the code under
// test.
#pragma once

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/test_device.h"

namespace muonp::test {

struct Dense {  // row-major
  std::int64_t rows = 0, cols = 0;
  std::vector<double> values;
  Dense(std::int64_t r, std::int64_t c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c)) {}
  double& operator()(std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * cols + c)]; }
  double operator()(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * cols + c)]; }
};

struct Factors {  // U [rows, n], s [n] in descending order, V [cols, n]
  Dense u, v;
  std::vector<double> s;
};

// U diag(s) Vᵀ
inline Dense compose(const Factors& f, const std::function<double(double)>& of_sigma) {
  Dense out(f.u.rows, f.v.rows);
  for (std::int64_t r = 0; r < out.rows; ++r)
    for (std::size_t k = 0; k < f.s.size(); ++k) {
      const double weight = f.u(r, static_cast<std::int64_t>(k)) * of_sigma(f.s[k]);
      for (std::int64_t c = 0; c < out.cols; ++c) out(r, c) += weight * f.v(c, static_cast<std::int64_t>(k));
    }
  return out;
}

inline Factors decompose(const Dense& g) {
  const std::int64_t n = std::min(g.rows, g.cols);
  Factors f{Dense(g.rows, n), Dense(g.cols, n), std::vector<double>(static_cast<std::size_t>(n))};
  Dense copy = g, vt(n, g.cols);
  LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', static_cast<lapack_int>(g.rows), static_cast<lapack_int>(g.cols), copy.values.data(),
                 static_cast<lapack_int>(g.cols), f.s.data(), f.u.values.data(), static_cast<lapack_int>(n),
                 vt.values.data(), static_cast<lapack_int>(g.cols));
  for (std::int64_t k = 0; k < n; ++k)
    for (std::int64_t c = 0; c < g.cols; ++c) f.v(c, k) = vt(k, c);
  return f;
}

inline Dense gaussian(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Dense g(rows, cols);
  for (double& x : g.values) x = normal(random);
  return g;
}

// Columns that are orthonormal, rows ≥ cols.
inline Dense orthonormal(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  Dense q = gaussian(rows, cols, seed);
  std::vector<double> tau(static_cast<std::size_t>(cols));
  const auto m = static_cast<lapack_int>(rows), n = static_cast<lapack_int>(cols);
  LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, m, n, q.values.data(), n, tau.data());
  LAPACKE_dorgqr(LAPACK_ROW_MAJOR, m, n, n, q.values.data(), n, tau.data());
  return q;
}

// Spectra by name; singular values in descending order, the largest 1.
inline std::vector<double> spectrum(const std::string& kind, std::int64_t n) {
  std::vector<double> s(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const double t = n > 1 ? static_cast<double>(i) / static_cast<double>(n - 1) : 0;
    double value = 1;
    if (kind == "geometric") value = std::pow(1e-3, t);
    if (kind == "harmonic") value = 1.0 / static_cast<double>(i + 1);
    if (kind == "linear") value = 1 - t * (1 - 1e-3);
    if (kind == "two values") value = 2 * i < n ? 1 : 1e-3;
    if (kind == "low rank") value = 4 * i < n ? std::pow(1e-2, 4 * t) : 0;
    s[static_cast<std::size_t>(i)] = value;
  }
  return s;
}

inline Factors known_factors(const std::string& kind, std::int64_t rows, std::int64_t cols, std::uint64_t seed = 1) {
  if (kind == "gaussian") return decompose(gaussian(rows, cols, seed));
  const std::int64_t n = std::min(rows, cols);
  return {orthonormal(rows, n, seed), orthonormal(cols, n, seed + 1), spectrum(kind, n)};
}

inline core::Tensor to_tensor(core::Device& device, const Dense& g, double scale = 1) {
  core::Tensor t = core::Tensor::empty(device, {g.rows, g.cols}, core::Dtype::float32, core::Category::other);
  std::vector<float> values;
  for (const double v : g.values) values.push_back(static_cast<float>(scale * v));
  set_values(t, values);
  return t;
}

inline core::Tensor empty_like(core::Device& device, const core::Tensor& t) {
  return core::Tensor::empty(device, t.shape(), core::Dtype::float32, core::Category::other);
}

struct Errors {
  double singular_value = 0;  // worst |uᵢᵀ Z vᵢ/σᵢᵖ − 1| over σᵢ ≥ ε·σ_max
  double frobenius = 0;       // ‖Z − U Sᵖ Vᵀ‖_F/‖U Sᵖ Vᵀ‖_F, with 0ᵖ = 0
};

// Of z as U Sᵖ Vᵀ of scale·(U S Vᵀ).
inline Errors errors_of(const core::Tensor& z, const Factors& f, double p, double epsilon = 1e-3, double scale = 1) {
  const std::int64_t rows = f.u.rows, cols = f.v.rows;
  const auto power = [&](double sigma) { return sigma > 1e-12 * f.s[0] ? std::pow(scale * sigma, p) : 0.0; };
  const std::vector<float> data = values_of(z);
  Errors errors;
  for (std::size_t k = 0; k < f.s.size() && f.s[k] >= 0.999999 * epsilon * f.s[0]; ++k) {
    double projection = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      double zv = 0;
      for (std::int64_t c = 0; c < cols; ++c)
        zv += data[static_cast<std::size_t>(r * cols + c)] * f.v(c, static_cast<std::int64_t>(k));
      projection += f.u(r, static_cast<std::int64_t>(k)) * zv;
    }
    errors.singular_value = std::max(errors.singular_value, std::abs(projection / power(f.s[k]) - 1));
  }
  const Dense wanted = compose(f, power);
  double difference = 0, total = 0;
  for (std::size_t i = 0; i < wanted.values.size(); ++i) {
    difference += std::pow(data[i] - wanted.values[i], 2);
    total += wanted.values[i] * wanted.values[i];
  }
  errors.frobenius = std::sqrt(difference / total);
  return errors;
}

}  // namespace muonp::test
