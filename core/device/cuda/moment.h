// Moments of a GPU's streams.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "core/device/device.h"

namespace muonp::core::cuda {

// When all that the stream was given has been done. Moments of all streams of a GPU can be compared.
std::unique_ptr<TimePoint> moment_of(cudaStream_t stream);

}  // namespace muonp::core::cuda
