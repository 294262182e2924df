// What a step multiplies some weights by after their update (StepOptions::scales).
#pragma once

#include <span>
#include <vector>

#include "core/autograd/scaled_elements.h"
#include "dist/plan/shard_plan.h"

namespace muonp::optim {

using WeightScales = std::vector<core::ScaledElements>;

// By index in `parameters`. InternalError for one that is not there, as a frozen one is not.
std::vector<WeightScales> scales_by_parameter(const core::ParameterList& parameters, const WeightScales& scales);

// `values`: elements `kept` of a parameter, 1-D float32, on the device or in host memory. Each is multiplied by float32
// factors, so that every rank that keeps it has the same bits.
void scale_elements(core::Device& device, const core::Tensor& values, dist::Interval kept, const WeightScales& scales);

}  // namespace muonp::optim
