// A spectral power by NarrowSteps on matrices, each step of all matrices of a batch together.
#pragma once

#include <functional>
#include <memory>

#include "optim/spectral/methods.h"
#include "optim/spectral/narrow_matrices.h"
#include "optim/spectral/narrow_schedule.h"

namespace muonp::optim::spectral {

using ChooseSchedule = std::function<std::shared_ptr<const NarrowSchedule>(std::int64_t rows, std::int64_t cols)>;

// p < 1. `choose` is asked at once, for an error now rather than in the first step, and then once for each shape.
Method make_narrow_power(const SpectralOptions& options, Scaling scaling, ChooseSchedule choose);

}  // namespace muonp::optim::spectral
