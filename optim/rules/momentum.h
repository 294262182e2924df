// The keys of a rule that averages gradients over steps, with μ the factor and g a gradient:
//
//   ema          M ← μM + (1 − μ)g
//   heavy_ball   M ← μM + g
//   nesterov     one step of the same ahead: μM + (1 − μ)g, or μM + g, in the place of M
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/config/config.h"

namespace muonp::optim {

inline constexpr std::string_view kMomentumForms[] = {"ema", "heavy_ball"};

struct Momentum {
  double factor = 0.95;  // μ
  bool ema = true;
  bool nesterov = true;
};

void describe_momentum(core::Fields& fields, core::StepValue& factor, std::string& form, bool& nesterov);
bool is_ema(std::string_view form);  // Error where it is none of kMomentumForms

// 1 − βᵗ, what an exponential average from zero has seen of its limit after t steps.
double bias_correction(double beta, std::int64_t step);

// Error "<path>.<key> is ...: it must be at least 0 and below 1".
void require_below_one(const std::string& path, std::string_view key, const core::StepValue& value);

}  // namespace muonp::optim
