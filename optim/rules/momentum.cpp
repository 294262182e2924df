#include "optim/rules/momentum.h"

#include <cmath>

#include "core/base/error.h"

namespace muonp::optim {

void describe_momentum(core::Fields& f, core::StepValue& factor, std::string& form, bool& nesterov) {
  f.step_value("momentum", factor, {.min = 0, .max = 1}, "momentum factor, below 1");
  f.choice("momentum_form", form, kMomentumForms, "M <- mu M + (1 - mu) G (ema) or M <- mu M + G (heavy_ball)");
  f.boolean("nesterov", nesterov, "look one step of momentum ahead");
}

bool is_ema(std::string_view form) {
  if (form == kMomentumForms[0]) return true;
  if (form == kMomentumForms[1]) return false;
  core::fail("momentum_form '{}' is not known; valid are {}", form, fmt::join(kMomentumForms, ", "));
}

// Without cancellation: at t = 1 it is 1 − β, which a power rounded to 1 would lose for β near 1.
double bias_correction(double beta, std::int64_t step) {
  return beta == 0 ? 1.0 : -std::expm1(static_cast<double>(step) * std::log(beta));
}

void require_below_one(const std::string& path, std::string_view key, const core::StepValue& value) {
  if (!(value.smallest() >= 0 && value.largest() < 1))
    core::fail("{}.{} is {}: it must be at least 0 and below 1", path, key, value.text());
}

}  // namespace muonp::optim
