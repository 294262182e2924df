#include "optim/rules/beyond_muon.h"

namespace muonp::optim {

void BeyondMuon::describe(core::Fields& f) {
  f.text("p", p, "exponent of U S^p V^T, a fraction in [-1/2, 1]");
  SpectralRule::describe(f);
}

// One exponent: the scale is another at 0.
void BeyondMuon::validate(const std::string& path) const {
  SpectralRule::validate(path);
  try {
    scale();
  } catch (const core::Error& e) {
    core::fail("{}: {}", path, e.what());
  }
}

ShapeScale BeyondMuon::scale() const {
  return spectral::parse_exponent(p).value() == 0 ? ShapeScale::aspect : ShapeScale::none;
}

}  // namespace muonp::optim
