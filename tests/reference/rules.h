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

// Of one step: g is the mean gradient over ranks, clipped; t counts from 1.
struct Step {
  std::int64_t t;
  double lr, weight_decay;
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
inline void muonp(Parameter& p, const Doubles& g, const Step& s, double exponent, double mu, bool ema, bool nesterov) {
  Doubles z = optim::oracle::spectral_power(momentum(p, g, mu, ema, nesterov), p.rows, p.cols, exponent);
  const double size = std::sqrt(static_cast<double>(z.size())), norm = optim::oracle::norm(z);
  for (double& x : z) x *= norm > 0 ? 0.2 * size / norm : 0;
  apply(p, z, s);
}

}  // namespace muonp::reference
