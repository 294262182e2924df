#include "optim/rules/htmuon.h"

namespace muonp::optim {

void HTMuon::describe(core::Fields& f) {
  f.text("p", p, "exponent of U S^p V^T, a fraction in [-1/2, 1]; or at steps: 1/8@1 0@500");
  SpectralRule::describe(f);
}

}  // namespace muonp::optim
