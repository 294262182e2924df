// One factory per recurrence; make_spectral_power() chooses among them. Each throws core::Error for an
// exponent or a dtype that it cannot do.
#pragma once

#include <memory>

#include "optim/spectral/spectral_power.h"

namespace muonp::optim::spectral {

using Method = std::unique_ptr<SpectralPower>;

Method make_coupled_minimax(const SpectralOptions& options);
Method make_newton_schulz5(const SpectralOptions& options);
Method make_polar_express(const SpectralOptions& options);
Method make_symmetric_newton_schulz5(const SpectralOptions& options);
Method make_gram_newton_schulz(const SpectralOptions& options);
Method make_bivariate(const SpectralOptions& options);
Method make_coupled_newton(const SpectralOptions& options);
Method make_svd(const SpectralOptions& options);

}  // namespace muonp::optim::spectral
