#include "optim/rules/muon.h"

namespace muonp::optim {

void Muon::describe(core::Fields& f) {
  SpectralRule::describe(f);
  f.boolean("nesterov", nesterov, "look one step of momentum ahead");
  f.integer("steps", steps, {.min = 1, .max = 32}, "of the methods of Newton and Schulz; others have as many as they need");
  f.choice("scale", scale_name, kShapeScales, "size of the update (docs/optimizers.md)");
}

void Muon::validate(const std::string& path) const {
  SpectralRule::validate(path);
  parse_shape_scale(scale_name);
  if (steps != Muon().steps && !spectral::is_stopped_after_steps(method))
    core::fail(
        "{}.steps is {}, and method is {}: only newton_schulz5, symmetric_newton_schulz5 and gram_newton_schulz are "
        "stopped after a number of steps",
        path, steps, method);
}

}  // namespace muonp::optim
