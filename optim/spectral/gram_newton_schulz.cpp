// Muon's steps (quintic.cpp) with symmetric products and with the identity part kept apart: the same polynomial of the
// Gram matrix, A ↦ X·(a I + b A + c A²), by NarrowSteps.
//   symmetric_newton_schulz5: A formed anew in every step
//   gram_newton_schulz: A and the product of the factors on the small side, A formed anew after the second of five steps
//   only (Gram Newton–Schulz, Dao-AILab), of more after each third from there
#include "optim/spectral/narrow_power.h"
#include "optim/spectral/quintic.h"

namespace muonp::optim::spectral {
namespace {

// A is formed anew after step `first` and each `every` steps later.
Method make(const SpectralOptions& options, int first, int every) {
  require_polar(options);
  auto schedule = std::make_shared<NarrowSchedule>();
  for (int k = 0; k < options.steps; ++k) {
    schedule->degrees.push_back(2);
    schedule->plan.steps.push_back({.low = 0, .high = 1, .weight = {{kMuon.a, kMuon.b, kMuon.c}, 0}, .octic = {}});
  }
  for (int k = first; k < options.steps; k += every) schedule->plan.rebuilds.push_back(k);
  schedule->forecast.cost = cost_of(options.p, schedule->plan);
  schedule->forecast.design_error = std::numeric_limits<double>::quiet_NaN();
  return make_narrow_power(options, Scaling::by_norm, [schedule](std::int64_t, std::int64_t) { return schedule; });
}

}  // namespace

Method make_symmetric_newton_schulz5(const SpectralOptions& options) { return make(options, 1, 1); }
Method make_gram_newton_schulz(const SpectralOptions& options) { return make(options, 2, 3); }

}  // namespace muonp::optim::spectral
