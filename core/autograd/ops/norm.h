// Normalisation of each row of the last dimension.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

inline constexpr float kNormEpsilon = 1e-5f;  // added to the mean square

// (x − mean) / √(variance + ε) · gain + bias: layer normalisation (Ba et al. 2016). bias may be null.
Variable layer_norm(Tape& tape, const Variable& x, Parameter& gain, Parameter* bias, float epsilon = kNormEpsilon);

// x / √(mean of squares + ε) · gain (Zhang and Sennrich 2019).
Variable rms_norm(Tape& tape, const Variable& x, Parameter& gain, float epsilon = kNormEpsilon);

// a + b and its norm, in one pass over memory: what add() and the norm give, in every bit.
struct SumAndNorm {
  Variable sum, norm;
};
SumAndNorm add_and_layer_norm(Tape& tape, const Variable& a, const Variable& b, Parameter& gain, Parameter* bias,
                              float epsilon = kNormEpsilon);
SumAndNorm add_and_rms_norm(Tape& tape, const Variable& a, const Variable& b, Parameter& gain, float epsilon = kNormEpsilon);

// All: x [..., width] in float32 or bfloat16, gain and bias [width] in the same dtype; statistics are
// float32.

}  // namespace muonp::core::ops
