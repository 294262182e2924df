// Real polynomials; coefficients ascending.
#pragma once

#include <vector>

namespace muonp::optim::spectral {

long double evaluate(const std::vector<long double>& coefficients, long double x);

// Coefficients d with Σ c_i·(x + shift)ⁱ = Σ d_i·xⁱ.
std::vector<double> shifted(const std::vector<double>& coefficients, double shift);

// Where the polynomial changes sign in (low, high), ascending.
std::vector<long double> roots_between(const std::vector<long double>& coefficients, long double low, long double high);

}  // namespace muonp::optim::spectral
