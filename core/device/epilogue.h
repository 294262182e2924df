// What may become of a product before it is stored, for devices whose library does not do it.
#pragma once

#include "core/device/blas.h"

namespace muonp::core {

// Makes a product with an epilogue by one without, or with a bias alone, and a kernel behind it.
void multiply_in_parts(Queue& queue, const Product& product);

// Of tensors of one shape and type: y = gelu(x); and gradient ← gradient∘gelu'(x).
void gelu(Queue& queue, const Tensor& x, const Tensor& y);
void times_gelu_slope(Queue& queue, const Tensor& x, const Tensor& gradient);

}  // namespace muonp::core
