#include "optim/rules/muon.h"

namespace muonp::optim {

void Muon::describe(core::Fields& f) {
  SpectralRule::describe(f);
  f.boolean("nesterov", nesterov, "look one step of momentum ahead");
  f.integer("steps", steps, {.min = 1, .max = 32}, "of method newton_schulz5; other methods have as many as they need");
  f.choice("scale", scale_name, kShapeScales, "size of the update (docs/optimizers.md)");
}

void Muon::validate(const std::string& path) const {
  SpectralRule::validate(path);
  parse_shape_scale(scale_name);
  if (steps != Muon().steps && method != Muon().method)
    core::fail("{}.steps is {}, and method is {}: only {} is stopped after a number of steps", path, steps, method,
               Muon().method);
}

}  // namespace muonp::optim
