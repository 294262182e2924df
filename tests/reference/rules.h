// Every update rule in double precision, written to be read beside its equations in docs/optimizers.md: what the rules of
// optim/rules are compared with. One function a rule, on one whole parameter; nothing here is shared with the product.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include "tests/optim/oracles.h"

namespace muonp::reference {

using optim::oracle::Doubles;

// A parameter and what its rule keeps, [rows, cols] where it is a matrix.
struct Parameter {
  std::int64_t rows = 1, cols = 0;
  Doubles w;
  std::map<std::string, Doubles> states = {};
  Doubles& state(const std::string& name, std::size_t size) {
    Doubles& s = states[name];
    if (s.empty()) s.assign(size, 0.0);
    return s;
  }
};

// Of one step: g is the mean gradient over ranks, clipped; t counts from 1; norm: of the gradient before it was clipped.
struct Step {
  std::int64_t t;
  double lr, weight_decay;
  double norm = 0, loss = 0;
  Doubles old = {};  // the gradient of the same samples at the weights of the step before
};

// W <- (1 - lr lambda) W - lr u
inline void apply(Parameter& p, const Doubles& u, const Step& s) {
  for (std::size_t i = 0; i < p.w.size(); ++i) p.w[i] = (1 - s.lr * s.weight_decay) * p.w[i] - s.lr * u[i];
}

// M <- mu M + g', N = M, or g' + mu M with Nesterov; g' = g, or (1 - mu) g for an exponential average
inline Doubles momentum(Parameter& p, const Doubles& g, double mu, bool ema, bool nesterov) {
  Doubles& m = p.state("momentum", g.size());
  Doubles n(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double added = (ema ? 1 - mu : 1) * g[i];
    m[i] = mu * m[i] + added;
    n[i] = nesterov ? added + mu * m[i] : m[i];
  }
  return n;
}

// arXiv 1711.05101, algorithm 2
inline void adamw(Parameter& p, const Doubles& g, const Step& s, double beta1, double beta2, double eps) {
  Doubles &m = p.state("m", g.size()), &v = p.state("v", g.size());
  Doubles u(g.size());
  const double t = static_cast<double>(s.t);
  for (std::size_t i = 0; i < g.size(); ++i) {
    m[i] = beta1 * m[i] + (1 - beta1) * g[i];
    v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
    const double mean = m[i] / (1 - std::pow(beta1, t)), square = v[i] / (1 - std::pow(beta2, t));
    u[i] = mean == 0 ? 0 : mean / (std::sqrt(square) + eps);
  }
  apply(p, u, s);
}

inline void sgd(Parameter& p, const Doubles& g, const Step& s, double mu, bool ema, bool nesterov) {
  apply(p, momentum(p, g, mu, ema, nesterov), s);
}

// arXiv 2606.13867: U S^p V^T of the momentum, here by a singular value decomposition, with the root mean square 0.2
inline void move_by_power(Parameter& p, const Doubles& n, const Step& s, double exponent) {
  Doubles z = optim::oracle::spectral_power(n, p.rows, p.cols, exponent);
  const double size = std::sqrt(static_cast<double>(z.size())), norm = optim::oracle::norm(z);
  for (double& x : z) x *= norm > 0 ? 0.2 * size / norm : 0;
  apply(p, z, s);
}
inline void muonp(Parameter& p, const Doubles& g, const Step& s, double exponent, double mu, bool ema, bool nesterov) {
  move_by_power(p, momentum(p, g, mu, ema, nesterov), s, exponent);
}

// C [m, n] = A [m, k] B [k, n]
inline Doubles product(const Doubles& a, const Doubles& b, std::int64_t m, std::int64_t k, std::int64_t n) {
  Doubles c(static_cast<std::size_t>(m * n), 0.0);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t l = 0; l < k; ++l)
      for (std::int64_t j = 0; j < n; ++j) c[i * n + j] += a[i * k + l] * b[l * n + j];
  return c;
}

// (A A^T)^(-1/2), or of the columns (A^T A)^(-1/2); of zero, zero. Here by the singular values of A itself.
inline Doubles inverse_root(const Parameter& a, bool columns) {
  const optim::oracle::Svd d = optim::oracle::svd(a.w, a.rows, a.cols);
  const std::int64_t n = columns ? a.cols : a.rows, k = static_cast<std::int64_t>(d.s.size());
  Doubles root(static_cast<std::size_t>(n * n), 0.0);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t l = 0; l < k && d.s[0] > 0; ++l)
        root[i * n + j] += columns ? d.vt[l * n + i] * d.vt[l * n + j] / d.s[l] : d.u[i * k + l] * d.u[j * k + l] / d.s[l];
  return root;
}

// arXiv 2606.12921 with a spectral power, and the root mean square 0.2 for the product: s B A, B [m, r], A [r, n]
inline void lora_muonp(Parameter& b, Parameter& a, const Doubles& gb, const Doubles& ga, const Step& s, double scale,
                       double exponent, double mu, bool ema, bool nesterov) {
  const std::int64_t m = b.rows, r = b.cols, n = a.cols;
  const Doubles right = inverse_root(a, false), left = inverse_root(b, true);
  const Doubles nb = product(momentum(b, gb, mu, ema, nesterov), right, m, r, r),
                na = product(left, momentum(a, ga, mu, ema, nesterov), r, r, n);
  const double size = 0.2 * std::sqrt(static_cast<double>(m * n)), kept = std::sqrt(1 - s.lr * s.weight_decay);
  const auto move = [&](Parameter& p, Doubles z, const auto& whiten) {
    const double norm = optim::oracle::norm(z);
    for (double& x : z) x *= norm > 0 ? size / norm / (2 * scale) : 0;
    const Doubles u = whiten(z);
    for (std::size_t i = 0; i < u.size(); ++i) p.w[i] = kept * p.w[i] - s.lr / kept * u[i];
  };
  move(b, optim::oracle::spectral_power(nb, m, r, exponent), [&](const Doubles& z) { return product(z, right, m, r, r); });
  move(a, optim::oracle::spectral_power(na, r, n, exponent), [&](const Doubles& z) { return product(left, z, r, r, n); });
}

}  // namespace muonp::reference
