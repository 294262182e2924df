// A part of a parameter that is to be multiplied by a number.
#pragma once

#include "core/autograd/parameter.h"

namespace muonp::core {

struct ScaledElements {
  const Parameter* parameter;
  std::int64_t begin, end;  // [begin, end) of its flattened elements
  double factor;
};

}  // namespace muonp::core
