// The optimizers around Muon^p in double precision, as their equations stand in docs/optimizers.md. G is the gradient,
// M a momentum, P_p(M) = U S^p V^T.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/reference/rules.h"

namespace muonp::reference {

using optim::oracle::norm;
using optim::oracle::spectral_power;

inline void multiply(Doubles& x, double by) {
  for (double& value : x) value *= by;
}
// Brings the root mean square to `size`; zero stays zero.
inline void scale_to_rms(Doubles& x, double size) {
  const double n = norm(x);
  multiply(x, n > 0 ? size * std::sqrt(static_cast<double>(x.size())) / n : 0);
}
inline double aspect(const Parameter& p) {
  return std::sqrt(std::max(1.0, static_cast<double>(p.rows) / static_cast<double>(p.cols)));
}
inline Doubles transposed(const Doubles& a, std::int64_t rows, std::int64_t cols) {
  Doubles t(a.size());
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) t[j * rows + i] = a[i * cols + j];
  return t;
}
inline double correction(double beta, std::int64_t t) { return 1 - std::pow(beta, static_cast<double>(t)); }

// Jordan 2024
inline void muon(Parameter& p, const Doubles& g, const Step& s) {
  Doubles u = spectral_power(momentum(p, g, 0.95, false, true), p.rows, p.cols, 0);
  multiply(u, aspect(p));
  apply(p, u, s);
}

// arXiv 2602.04669, momentum family
inline void beyond_muon(Parameter& p, const Doubles& g, const Step& s, double exponent) {
  Doubles u = spectral_power(momentum(p, g, 0.9, false, false), p.rows, p.cols, exponent);
  if (exponent == 0) multiply(u, aspect(p));
  apply(p, u, s);
}

// the same, RMS-normalised family
inline void beyond_muon_rms(Parameter& p, const Doubles& g, const Step& s, double exponent) {
  Doubles &m = p.state("m", g.size()), &v = p.state("v", g.size());
  Doubles n(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) {
    m[i] = 0.9 * m[i] + 0.1 * g[i];
    v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
    n[i] = m[i] / correction(0.9, s.t) / (std::sqrt(v[i] / correction(0.95, s.t)) + 1e-8);
  }
  Doubles u = spectral_power(n, p.rows, p.cols, exponent);
  if (exponent == 0) multiply(u, aspect(p));
  apply(p, u, s);
}

// arXiv 2603.10067
inline void htmuon(Parameter& p, const Doubles& g, const Step& s) {
  Doubles u = spectral_power(momentum(p, g, 0.95, true, true), p.rows, p.cols, 1.0 / 8);
  multiply(u, aspect(p));
  apply(p, u, s);
}

// arXiv 2605.17109 in a run of a few steps, each of which is far behind the logistic curve's fall
inline void dynmuon(Parameter& p, const Doubles& g, const Step& s) {
  Doubles u = spectral_power(momentum(p, g, 0.95, true, true), p.rows, p.cols, -0.25);
  scale_to_rms(u, 0.2);
  apply(p, u, s);
}

// arXiv 2605.11181: (N N^T)^-c N by eigenvectors of the singular value decomposition
inline void freon(Parameter& p, const Doubles& g, const Step& s, double c) {
  Doubles u = spectral_power(momentum(p, g, 0.95, true, true), p.rows, p.cols, 1 - 2 * c);
  scale_to_rms(u, 0.2);
  apply(p, u, s);
}

// Rows of O by the root of their mean square over time.
inline void normalize_rows(Parameter& p, Doubles& o) {
  Doubles& v = p.state("row_squares", static_cast<std::size_t>(p.rows));
  for (std::int64_t i = 0; i < p.rows; ++i) {
    double squares = 0;
    for (std::int64_t j = 0; j < p.cols; ++j) squares += o[i * p.cols + j] * o[i * p.cols + j];
    v[i] = 0.95 * v[i] + 0.05 * squares / static_cast<double>(p.cols);
    for (std::int64_t j = 0; j < p.cols; ++j) o[i * p.cols + j] *= v[i] > 0 ? 1 / (std::sqrt(v[i]) + 1e-8) : 0;
  }
}

// arXiv 2510.05491
inline void normuon(Parameter& p, const Doubles& g, const Step& s) {
  Doubles u = spectral_power(momentum(p, g, 0.95, true, false), p.rows, p.cols, 0);
  normalize_rows(p, u);
  scale_to_rms(u, 0.2);
  apply(p, u, s);
}

// arXiv 2602.13498
inline void trasmuon(Parameter& p, const Doubles& g, const Step& s) {
  const Doubles m = momentum(p, g, 0.95, true, false);
  Doubles u = spectral_power(m, p.rows, p.cols, 0);
  normalize_rows(p, u);
  scale_to_rms(u, 1);
  Doubles energy(static_cast<std::size_t>(p.cols), 0.0);
  for (std::size_t i = 0; i < m.size(); ++i) energy[i % energy.size()] += m[i] * m[i];
  Doubles sorted = energy;
  std::sort(sorted.begin(), sorted.end());
  const double median = (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
  double& reference = p.state("reference", 1)[0];
  reference = reference == 0 ? median : 0.95 * reference + 0.05 * median;
  for (std::size_t i = 0; i < u.size(); ++i) {
    const double e = energy[i % energy.size()];
    u[i] *= e == 0 ? 1 : std::clamp(1 / (1 + std::log(1 + e / reference)), 0.1, 1.0);
  }
  apply(p, u, s);
}

// arXiv 2509.02981
inline void adago(Parameter& p, const Doubles& g, const Step& s) {
  Doubles u = spectral_power(momentum(p, g, 0.95, true, false), p.rows, p.cols, 0);
  double& squares = p.state("squares", 1)[0];
  const double size = std::min(s.norm, 1.0);
  squares += size * size;
  multiply(u, std::max(5e-4, s.lr * size / std::sqrt(squares)) / s.lr);
  apply(p, u, s);
}

// arXiv 2509.24320; hybrid: one step of Newton and Schulz first
inline void auon(Parameter& p, const Doubles& g, const Step& s, bool hybrid) {
  Doubles u = momentum(p, g, 0.95, false, true);
  const double n = norm(u);
  multiply(u, n > 0 ? 1 / n : 0);
  if (hybrid && n > 0) {
    optim::oracle::Svd d = optim::oracle::svd(u, p.rows, p.cols);
    for (double& x : d.s) x = 3.4445 * x - 4.7750 * std::pow(x, 3) + 2.0315 * std::pow(x, 5);
    u = optim::oracle::compose(d, d.s);
  }
  double squares = 0;
  for (const double x : u) squares += std::pow(std::cosh(1.5 * x), 2);
  multiply(u, aspect(p) / std::sqrt(squares / static_cast<double>(u.size())));
  apply(p, u, s);
}

// Q [n, n] of the symmetric positive A = Q S Q^T, columns by falling eigenvalues
inline Doubles eigenvectors(const Doubles& a, std::int64_t n) { return optim::oracle::svd(a, n, n).u; }

// arXiv 2509.24218
inline void conda(Parameter& p, const Doubles& g, const Step& s) {
  Doubles &m = p.state("m", g.size()), &v = p.state("v", g.size()), &basis = p.state("basis", 1);
  const bool tall = p.rows > p.cols;
  const std::int64_t rows = tall ? p.cols : p.rows, cols = tall ? p.rows : p.cols;  // the smaller side first
  const auto turned = [&](const Doubles& x) { return tall ? transposed(x, p.rows, p.cols) : x; };
  for (std::size_t i = 0; i < g.size(); ++i) m[i] = 0.9 * m[i] + 0.1 * g[i];
  const Doubles small = turned(m);
  if ((s.t - 1) % 2000 == 0) basis = eigenvectors(product(small, transposed(small, rows, cols), rows, cols, rows), rows);
  const Doubles into = transposed(basis, rows, rows);
  const Doubles gradient = product(into, turned(g), rows, rows, cols);
  Doubles x = product(into, small, rows, rows, cols);
  for (std::size_t i = 0; i < x.size(); ++i) {
    v[i] = 0.99 * v[i] + 0.01 * gradient[i] * gradient[i];
    x[i] = v[i] > 0 ? x[i] / (std::sqrt(v[i]) + 1e-8) : 0;
  }
  Doubles u = product(basis, x, rows, rows, cols);
  if (tall) u = transposed(u, rows, cols);
  multiply(u, 0.25 * std::sqrt(correction(0.99, s.t)) / correction(0.9, s.t));
  apply(p, u, s);
}

// Columns of A [n, n] made orthonormal in their order.
inline Doubles orthonormal(Doubles a, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    for (int twice = 0; twice < 2; ++twice)
      for (std::int64_t k = 0; k < j; ++k) {
        double inner = 0;
        for (std::int64_t i = 0; i < n; ++i) inner += a[i * n + k] * a[i * n + j];
        for (std::int64_t i = 0; i < n; ++i) a[i * n + j] -= inner * a[i * n + k];
      }
    double squares = 0;
    for (std::int64_t i = 0; i < n; ++i) squares += a[i * n + j] * a[i * n + j];
    for (std::int64_t i = 0; i < n; ++i) a[i * n + j] /= std::sqrt(squares);
  }
  return a;
}

// arXiv 2409.11321, algorithm 3; the bases turn every `frequency` steps; one_sided: the smaller side only
inline void soap(Parameter& p, const Doubles& g, const Step& s, std::int64_t frequency, bool one_sided) {
  const std::int64_t m = p.rows, n = p.cols;
  const bool turns_left = !one_sided || m <= n, turns_right = !one_sided || m > n;
  Doubles &mean = p.state("m", g.size()), &v = p.state("v", g.size()), &l = p.state("l", m * m), &r = p.state("r", n * n),
          &ql = p.state("ql", m * m), &qr = p.state("qr", n * n);
  const Doubles gt = transposed(g, m, n), left = product(g, gt, m, n, m), right = product(gt, g, n, m, n);
  for (std::size_t i = 0; i < l.size(); ++i) l[i] = 0.95 * l[i] + 0.05 * left[i];
  for (std::size_t i = 0; i < r.size(); ++i) r[i] = 0.95 * r[i] + 0.05 * right[i];
  if (s.t == 1) {
    const auto identity = [&](std::int64_t size) {
      Doubles a(static_cast<std::size_t>(size * size), 0.0);
      for (std::int64_t i = 0; i < size; ++i) a[i * size + i] = 1;
      return a;
    };
    ql = turns_left ? eigenvectors(l, m) : identity(m);
    qr = turns_right ? eigenvectors(r, n) : identity(n);
    return apply(p, Doubles(g.size(), 0.0), s);
  }
  const auto into = [&](const Doubles& x) { return product(product(transposed(ql, m, m), x, m, m, n), qr, m, n, n); };
  for (std::size_t i = 0; i < g.size(); ++i) mean[i] = 0.95 * mean[i] + 0.05 * g[i];
  const Doubles gradient = into(g);
  Doubles x = into(mean);
  for (std::size_t i = 0; i < x.size(); ++i) {
    v[i] = 0.95 * v[i] + 0.05 * gradient[i] * gradient[i];
    const double own = correction(0.95, s.t - 1);
    x[i] = v[i] > 0 ? x[i] / own / (std::sqrt(v[i] / own) + 1e-8) : 0;
  }
  apply(p, product(product(ql, x, m, m, n), transposed(qr, n, n), m, n, n), s);
  if (s.t % frequency != 0) return;
  if (turns_left) ql = orthonormal(product(l, ql, m, m, m), m);
  if (turns_right) qr = orthonormal(product(r, qr, n, n, n), n);
}

// arXiv 2405.15682, algorithm 1, without warm-up; the weights are y
inline void schedule_free(Parameter& p, const Doubles& g, const Step& s) {
  Doubles &x = p.state("x", g.size()), &z = p.state("z", g.size()), &v = p.state("v", g.size()), &sum = p.state("sum", 1);
  if (s.t == 1) x = z = p.w;
  const double rate = s.lr * std::sqrt(correction(0.999, s.t));
  sum[0] += rate * rate;
  for (std::size_t i = 0; i < g.size(); ++i) {
    v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
    z[i] -= rate * (v[i] > 0 ? g[i] / (std::sqrt(v[i]) + 1e-8) : 0) + rate * s.weight_decay * p.w[i];
    x[i] += rate * rate / sum[0] * (z[i] - x[i]);
    p.w[i] = 0.1 * z[i] + 0.9 * x[i];
  }
}

// arXiv 2512.16598; approximate: the gradient of the step before in the place of one at the weights before
inline void muon_mvr(Parameter& p, const Doubles& g, const Step& s, bool exact) {
  Doubles &previous = p.state("previous", g.size()), &m = p.state("momentum", g.size());
  const Doubles old = exact ? s.old : previous;
  Doubles c = g;
  for (std::size_t i = 0; i < g.size(); ++i)
    if (s.t > 1) c[i] += 0.025 * 0.95 / 0.05 * (g[i] - old[i]);
  previous = g;
  multiply(c, 1 / std::max(1.0, norm(c)));
  for (std::size_t i = 0; i < g.size(); ++i) m[i] = 0.95 * m[i] + 0.05 * c[i];
  Doubles u = spectral_power(m, p.rows, p.cols, 0);
  scale_to_rms(u, 0.2);
  apply(p, u, s);
}

// arXiv 2602.16167, of the `modes` leading singular directions, exact here
inline void specmuon(Parameter& p, const Doubles& g, const Step& s, std::int64_t modes) {
  const Doubles m = momentum(p, g, 0.95, true, false);
  Doubles& r = p.state("auxiliary", static_cast<std::size_t>(p.rows));
  optim::oracle::Svd d = optim::oracle::svd(m, p.rows, p.cols);
  const double q = std::sqrt(s.loss + 1), size = norm(m);
  Doubles weights(d.s.size(), 0.0);
  for (std::int64_t j = 0; j < std::min<std::int64_t>(modes, std::ssize(d.s)); ++j) {
    const double before = r[j] == 0 ? q : r[j], sigma = d.s[j] / size;
    const double moved = before / (1 + s.lr * sigma * sigma / (2 * q * q));
    r[j] = 0.9 * moved + 0.1 * q;
    weights[j] = aspect(p) * moved / q;
  }
  apply(p, optim::oracle::compose(d, weights), s);
}

}  // namespace muonp::reference
