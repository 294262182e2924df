// The factor on every group's learning rate over the run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/config/config.h"

namespace muonp::optim {

inline constexpr std::string_view kScheduleKinds[] = {"constant", "linear", "cosine", "wsd"};

struct ScheduleConfig {
  std::string kind = "cosine";
  std::int64_t warmup = 0;      // steps
  double decay_fraction = 0.2;  // wsd: share of the run's steps, at its end, that the rate falls in
  double final_fraction = 0.1;  // what the decay ends at

  void describe(core::Fields& fields);
  // Error if warm-up and decay do not fit in the run.
  void validate(std::int64_t total_steps) const;
};

// For step in [0, total_steps), T = total_steps, w = warmup, f = final_fraction:
//   warm-up    (step + 1)/w for step < w: the first step already moves, step w − 1 has 1
//   constant   1
//   linear     1 − (1 − f)x                  with x = (step − w)/(T − w)
//   cosine     f + (1 − f)(1 + cos πx)/2     with the same x
//   wsd        1, then over the last d = round(decay_fraction·T) steps 1 − (1 − f)x with x = (step − (T −
//   d))/d
// x starts at 0 and would be 1 one step past the last, so that no step has a rate of 0 even where f = 0.
double lr_factor(const ScheduleConfig& schedule, std::int64_t step, std::int64_t total_steps);

}  // namespace muonp::optim
