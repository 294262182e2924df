// Each rule of the product's table with the defaults that it is published with, in double precision.
#pragma once

#include <string_view>

#include "tests/reference/rules.h"

namespace muonp::reference {

struct Reference {
  std::string_view rule;
  void (*step)(Parameter& p, const Doubles& g, const Step& s);
};

inline constexpr Reference kReferences[] = {
    {"muonp", [](Parameter& p, const Doubles& g, const Step& s) { muonp(p, g, s, 0.5, 0.95, true, true); }},
    {"adamw", [](Parameter& p, const Doubles& g, const Step& s) { adamw(p, g, s, 0.9, 0.95, 1e-8); }},
    {"sgd", [](Parameter& p, const Doubles& g, const Step& s) { sgd(p, g, s, 0.95, true, true); }},
};

}  // namespace muonp::reference
