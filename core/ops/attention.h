// Causal multi-head attention from a packed projection, and rotary positions on it.
#pragma once

#include "core/autograd.h"

namespace muonp::core::ops {

// qkv: [batch, time, 3·width], each row is the queries of all heads, then the keys, then the values; head h
// has columns [h·d, (h + 1)·d) of each, d = width / heads. Result [batch, time, width]: softmax(q·kᵀ/√d)·v
// over positions up to the query's own. Works by blocks of queries; the backward pass keeps the log of each
// row's normaliser
// ([batch, heads, time], float32) and computes the weights again, as in FlashAttention (Dao et al. 2022).
Variable attention(Tape& tape, const Variable& qkv, std::int64_t heads);

// Turns each pair (i, i + d/2) of every query and key of `qkv` by the angle t·10000^(−2i/d) of its position t
// (Su et al. 2021); values are passed on. Head size d must be even.
Variable rotary(Tape& tape, const Variable& qkv, std::int64_t heads);

}  // namespace muonp::core::ops
