#include "optim/rules/htmuon.h"

namespace muonp::optim {

void HTMuon::describe(core::Fields& f) {
  f.step_text("p", p, "exponent of U S^p V^T, a fraction in [-1/2, 1]");
  SpectralRule::describe(f);
}

}  // namespace muonp::optim
