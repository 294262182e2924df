// The CPU's matrix products, by oneDNN.
#pragma once

#include <array>

#include "core/device/blas.h"

namespace muonp::core::cpu {

// Queue::multiply of a CPU queue.
void multiply(Queue& queue, const Product& first, std::int64_t count, const std::array<std::int64_t, 3>& batch_strides);

}  // namespace muonp::core::cpu
