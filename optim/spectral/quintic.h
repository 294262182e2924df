// Muon's polynomial, and what the methods of p = 0 alone share.
#pragma once

#include "optim/spectral/spectral_power.h"

namespace muonp::optim::spectral {

// X ← X·(a I + b A + c A²), A = XᵀX
struct Quintic {
  float a, b, c;
};

// Muon (Jordan 2024): five steps with one set of coefficients, unless SpectralOptions::steps says another number.
inline constexpr Quintic kMuon{3.4445f, -4.7750f, 2.0315f};

// core::Error where p is not 0.
void require_polar(const SpectralOptions& options);

}  // namespace muonp::optim::spectral
