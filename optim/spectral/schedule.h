// Which steps the coupled recurrence takes: degrees of the step polynomials and how often the Gram matrix is
// rebuilt, chosen by a search over their cost for the wanted accuracy.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/dtype.h"
#include "optim/spectral/minimax.h"

namespace muonp::optim::spectral {

// Storage with fewer bits of mantissa than float32's has schedules of its own (narrow_schedule.h). polar_express widens the
// intervals that its steps are designed for by this much (8 bits; 11 bits; none).
inline bool is_narrow(core::Dtype dtype) { return dtype != core::Dtype::float32; }
inline double cushion_of(core::Dtype dtype) { return dtype == core::Dtype::bfloat16 ? 0.03 : is_narrow(dtype) ? 0.01 : 0.0; }

// Which products T·Wᵐ are computed in full and symmetrized, because T spans so many orders of magnitude that
// rounding makes its factors commute only roughly.
enum class Averaging : std::uint8_t { none, last, all };

inline bool is_averaged(Averaging averaging, bool last_step) {
  return averaging == Averaging::all || (averaging == Averaging::last && last_step);
}

struct Schedule {
  std::vector<int> degrees;
  int restarts = 0;  // the Gram matrix is rebuilt from the iterate after each of the first `restarts` steps
  Averaging averaging = Averaging::none;
  std::shared_ptr<const Design> design;
};

// The bound on σ_max that a matrix is divided by may be this much above σ_max (eigenvalue_bound() gives at
// most 1.5 for spectra met in tests up to n = 2048); steps are designed from ε/kBoundSlack on, so that the
// error holds for σ ≥ ε·σ_max, not only for σ ≥ ε·bound.
inline constexpr double kBoundSlack = 1.6;

// The cheapest schedule in float32 for [rows, cols] whose designed error is at most `tolerance`. Error where there is
// none.
Schedule choose_schedule(Exponent p, double epsilon, double tolerance, std::int64_t rows, std::int64_t cols);

// The products of one matrix's run: of two matrices of the small side, half work each or in full and symmetrized; Gram
// matrices of a long one; and of a long one by a small one.
struct ProductCount {
  int halves = 0, full = 0, grams = 0, longs = 0;
};
ProductCount schedule_count(const Schedule& schedule, Exponent p);

// Floating-point operations of the products that the recurrence executes with this schedule.
double schedule_flops(const Schedule& schedule, Exponent p, std::int64_t rows, std::int64_t cols);
// The same in products of n×n matrices, n = min(rows, cols), if symmetric ones cost exactly half.
double schedule_products(const Schedule& schedule, Exponent p, std::int64_t rows, std::int64_t cols);

}  // namespace muonp::optim::spectral
