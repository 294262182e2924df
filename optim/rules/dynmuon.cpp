#include "optim/rules/dynmuon.h"

namespace muonp::optim {

void DynMuon::describe(core::Fields& f) {
  f.step_text("p", p, "exponent of U S^p V^T over the run, fractions in [-1/2, 1]");
  SpectralRule::describe(f);
  f.choice("scale", scale_name, kShapeScales, "size of the update (docs/optimizers.md)");
}

void DynMuon::validate(const std::string& path) const {
  SpectralRule::validate(path);
  if (parse_shape_scale(scale_name) == ShapeScale::schatten)
    core::fail("{}.scale schatten needs p >= 0; choose one of match_rms, spectral, rms1, aspect, none", path);
}

}  // namespace muonp::optim
