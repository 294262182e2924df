// Each rule of the product's table with the defaults that it is published with, in double precision.
#pragma once

#include <string_view>

#include "tests/reference/rules.h"

namespace muonp::reference {

// arXiv 2302.06675, algorithm 2
inline void lion(Parameter& p, const Doubles& g, const Step& s, double beta1, double beta2) {
  Doubles& m = p.state("m", g.size());
  Doubles u(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double c = beta1 * m[i] + (1 - beta1) * g[i];
    u[i] = c > 0 ? 1 : c < 0 ? -1 : 0;
    m[i] = beta2 * m[i] + (1 - beta2) * g[i];
  }
  apply(p, u, s);
}

struct Reference {
  std::string_view rule;
  void (*step)(Parameter& p, const Doubles& g, const Step& s);
};

inline constexpr Reference kReferences[] = {
    {"muonp", [](Parameter& p, const Doubles& g, const Step& s) { muonp(p, g, s, 0.5, 0.95, true, true); }},
    {"adamw", [](Parameter& p, const Doubles& g, const Step& s) { adamw(p, g, s, 0.9, 0.95, 1e-8); }},
    {"lion", [](Parameter& p, const Doubles& g, const Step& s) { lion(p, g, s, 0.9, 0.99); }},
    {"sgd", [](Parameter& p, const Doubles& g, const Step& s) { sgd(p, g, s, 0.95, true, true); }},
};

}  // namespace muonp::reference
