// Normalisation of queries and keys, head by head.
#pragma once

#include "core/autograd/autograd.h"
#include "core/device/attention_shape.h"

namespace muonp::core::ops {

// rms_norm (core/autograd/ops/norm.h) of each query and each key of a packed projection qkv [..., heads.width()]
// (core/autograd/ops/attention.h) over its heads.size elements, by gains [size] that the query heads, and the key heads,
// share; values are passed on (Dehghani et al. 2023). Keeps a float32 statistic for each head of a row, values' too.
Variable head_norm(Tape& tape, const Variable& qkv, const AttentionHeads& heads, Parameter& query_gain, Parameter& key_gain,
                   float epsilon);

}  // namespace muonp::core::ops
