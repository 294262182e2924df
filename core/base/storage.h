// Calls a function template for a dtype that is known at run time only.
#pragma once

#include "core/base/dtype.h"
#include "core/base/error.h"

namespace muonp::core {

// f(T()) with the element type of a floating-point dtype.
template <class F>
void with_storage(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::float32:
    case Dtype::tf32:
      return f(float());
    case Dtype::bfloat16:
      return f(bfloat16());
    case Dtype::float16:
      return f(float16());
    case Dtype::int32:
    case Dtype::uint8:
      break;
  }
  MUONP_ASSERT(false, "{} where a floating-point type is wanted", name_of(dtype));
}

// f(T()) with the element type of activations: float32 or bfloat16.
template <class F>
void with_float_type(Dtype dtype, const F& f) {
  MUONP_ASSERT(dtype == Dtype::float32 || dtype == Dtype::bfloat16, "activations cannot be {}", name_of(dtype));
  if (dtype == Dtype::float32) {
    f(float());
  } else {
    f(bfloat16());
  }
}

}  // namespace muonp::core
