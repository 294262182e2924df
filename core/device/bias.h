// Biases of products that the device's library cannot add itself.
#pragma once

#include "core/device/blas.h"

namespace muonp::core {

// Adds product.bias to every row of the product's result, which has been made.
void add_bias(Queue& queue, const Product& product);

}  // namespace muonp::core
