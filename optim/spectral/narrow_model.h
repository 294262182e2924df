// What the recurrence in narrow storage costs and how exact it is, found by running it (narrow_steps.h) on numbers.
//
// A matrix is the list of its eigenvalues for a reference spectrum, σ geometric from 1 to ε, and each carries its
// derivatives by the rounding of every matrix stored before it. Rounding is a random matrix: an eigenvalue of an n×n matrix
// M moves by about u·√2·‖M‖_F/n, a singular value of a long one of k rows by u·‖M‖_F/√(k·n), where u is the root mean square
// of a stored entry's relative error. So the variance of the result's σᵖ is one number over n and another over k.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "core/device/device.h"
#include "optim/spectral/narrow_steps.h"

namespace muonp::optim::spectral {

// Products of a run, for n = min(rows, cols) and k = max(rows, cols), and scratch matrices alive at once.
struct NarrowCost {
  int symmetric = 0, grams = 0, longs = 0;  // n×n of n×n factors; n×n from a long matrix; a long one by an n×n one
  int small_matrices = 0, long_matrices = 0;

  // In products of n×n matrices, symmetric ones counted half.
  double products(std::int64_t rows, std::int64_t cols) const;
  // As executed.
  double flops(std::int64_t rows, std::int64_t cols, core::DeviceKind kind) const;
};

struct NarrowForecast {
  NarrowCost cost;
  double design_error = 0;                // of the steps in exact arithmetic
  std::vector<double> of_small, of_long;  // variance of σᵖ's relative error over 1/n and 1/k, along the spectrum
  double noise = 0;  // ‖rounding‖_F/‖Z‖_F at the most along a spectrum with many large singular values
  // By what part W^2h of an eigenvalue 0 is moved at the most, in any step, by the rounding of A as a whole: a matrix of
  // norm 2u·√n·‖A‖_F/n, which leaves negative eigenvalues, where w is no longer what it was designed to be.
  double instability = 0;
  bool in_range = true;  // no stored number leaves the storage's range

  // The worst relative error of σᵖ for σ in [ε, 1]; infinite where a number leaves the storage's range.
  double error(std::int64_t rows, std::int64_t cols) const;
};

// `design_error`: what the result keeps of it is that of all σ, not only of the spectrum's.
NarrowForecast forecast(Exponent p, const NarrowPlan& plan, double epsilon, double design_error, core::Dtype dtype);
// Of a plan whose weights do not matter.
NarrowCost cost_of(Exponent p, const NarrowPlan& plan);

}  // namespace muonp::optim::spectral
