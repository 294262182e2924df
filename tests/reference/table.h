// Each rule of the product's table with the defaults that it is published with, in double precision.
#pragma once

#include <string_view>

#include "tests/reference/family.h"

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

// `soap` is one-sided here: of the longer side of a matrix the eigenvectors of nothing are anybody's.
inline constexpr Reference kReferences[] = {
    {"muonp", [](Parameter& p, const Doubles& g, const Step& s) { muonp(p, g, s, 0.5, 0.95, true, true); }},
    {"muon", muon},
    {"beyond_muon", [](Parameter& p, const Doubles& g, const Step& s) { beyond_muon(p, g, s, 0.25); }},
    {"beyond_muon_rms", [](Parameter& p, const Doubles& g, const Step& s) { beyond_muon_rms(p, g, s, 0.25); }},
    {"htmuon", htmuon},
    {"dynmuon", dynmuon},
    {"freon", [](Parameter& p, const Doubles& g, const Step& s) { freon(p, g, s, 0.625); }},
    {"normuon", normuon},
    {"adago", adago},
    {"auon", [](Parameter& p, const Doubles& g, const Step& s) { auon(p, g, s, false); }},
    {"conda", conda},
    {"trasmuon", trasmuon},
    {"specmuon", [](Parameter& p, const Doubles& g, const Step& s) { specmuon(p, g, s, 8); }},
    {"muon_mvr", [](Parameter& p, const Doubles& g, const Step& s) { muon_mvr(p, g, s, false); }},
    {"adamw", [](Parameter& p, const Doubles& g, const Step& s) { adamw(p, g, s, 0.9, 0.95, 1e-8); }},
    {"lion", [](Parameter& p, const Doubles& g, const Step& s) { lion(p, g, s, 0.9, 0.99); }},
    {"schedule_free", schedule_free},
    {"soap", [](Parameter& p, const Doubles& g, const Step& s) { soap(p, g, s, 10, true); }},
    {"sgd", [](Parameter& p, const Doubles& g, const Step& s) { sgd(p, g, s, 0.95, true, true); }},
};

}  // namespace muonp::reference
