// The head of a language model: logits and cross-entropy in one operation, so that at most one buffer of
// logits exists.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// x: [..., width] with R rows in float32 or bfloat16; weight: [vocabulary, width] of the same dtype; targets:
// int32, R of them, −1 is not counted. Result: float32 scalar, the mean over the counted targets of log Σ_v
// exp(x·w_v) − x·w_target; 0 with zero gradients if none is counted. A target outside the vocabulary is an
// Error that names it.
//
// Logits are float32, or with bfloat16 rows of x bfloat16 where the options say so, `chunk_rows` rows at a time (0: all).
// The forward pass keeps the last chunk's logits and one float a row; the backward pass turns logits into their gradient in
// place and computes those of the other chunks again. So with one chunk nothing is computed twice, and with k chunks the
// buffer is k times smaller for 2·R·width·vocabulary·(k − 1)/k more floating-point operations. Rows of logits lie
// logits_pitch(vocabulary) elements apart: whole lines of memory, as products and 16-byte accesses want.
inline std::int64_t logits_pitch(std::int64_t vocabulary) { return (vocabulary + 63) / 64 * 64; }

Variable head_loss(Tape& tape, const Variable& x, Parameter& weight, const Tensor& targets, std::int64_t chunk_rows = 0,
                   Dtype logits = Dtype::float32);

// The loss of each row, float32 [R], 0 where it is not counted; forward only, with float32 logits.
Tensor head_losses(Tape& tape, const Tensor& x, Parameter& weight, const Tensor& targets, std::int64_t chunk_rows = 0);

}  // namespace muonp::core::ops
