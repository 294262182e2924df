#include "optim/rules/freon.h"

#include <algorithm>

namespace muonp::optim {

void Freon::describe(core::Fields& f) {
  f.text("c", c, "exponent of (N N^T)^-c N, a fraction in [0, 3/4]: 1/2 is the polar factor, p = 1 - 2c");
  SpectralRule::describe(f);
  f.choice("scale", scale_name, kShapeScales, "size of the update (docs/optimizers.md)");
}

// c in [0, 3/4] is p in [−1/2, 1]; an exponent's own reader takes nothing above 1.
core::StepText Freon::exponent() const {
  const spectral::Exponent e = spectral::parse_exponent(c);
  return to_string(spectral::Exponent{e.denominator - 2 * e.numerator, e.denominator});
}

void Freon::validate(const std::string& path) const {
  if (const double value = spectral::parse_exponent(c).value(); value < 0 || value > 0.75)
    core::fail("{}.c is {}: valid are fractions in [0, 3/4]", path, c);
  SpectralRule::validate(path);
  if (parse_shape_scale(scale_name) == ShapeScale::schatten)
    core::fail("{}.scale schatten needs p >= 0; choose one of match_rms, spectral, rms1, aspect, none", path);
}

}  // namespace muonp::optim
