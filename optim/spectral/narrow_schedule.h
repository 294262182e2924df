// Which steps the coupled recurrence takes in storage of fewer bits than float32's: degrees, rebuilds of the Gram matrix and
// where T is kept, by a search over their cost.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "optim/spectral/narrow_model.h"

namespace muonp::optim::spectral {

struct NarrowSchedule {
  std::vector<int> degrees;
  NarrowPlan plan;
  NarrowForecast forecast;
};

// As kBoundSlack (schedule.h): the largest that eigenvalue_bound() gives for the spectra of tests up to n = 1024 is 1.42.
inline constexpr double kNarrowBoundSlack = 1.45;

// The cheapest schedule for [rows, cols] whose forecast error, its design's and that of rounding, is at most `tolerance`:
// half as much again at p = 0, where the next cheapest costs a product more; and whose noise is at most five times that.
// Where rounding allows no schedule that, the cheapest that exceeds it by at most a quarter more than the best does.
// core::Error where no design within 6 to 9 steps reaches the tolerance, or a number leaves the storage's range.
std::shared_ptr<const NarrowSchedule> choose_narrow_schedule(Exponent p, double epsilon, double tolerance, core::Dtype dtype,
                                                             std::int64_t rows, std::int64_t cols);

}  // namespace muonp::optim::spectral
