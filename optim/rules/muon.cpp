#include "optim/rules/muon.h"

namespace muonp::optim {

void Muon::describe(core::Fields& f) {
  SpectralRule::describe(f);
  f.boolean("nesterov", nesterov, "look one step of momentum ahead");
  f.choice("scale", scale_name, kShapeScales, "size of the update (docs/optimizers.md)");
}

void Muon::validate(const std::string& path) const {
  SpectralRule::validate(path);
  parse_shape_scale(scale_name);
}

}  // namespace muonp::optim
