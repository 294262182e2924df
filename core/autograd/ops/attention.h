// Causal attention from a packed projection.
#pragma once

#include "core/autograd/autograd.h"
#include "core/device/attention_shape.h"

namespace muonp::core::ops {

// qkv: [batch, time, heads.width()], each row is the queries of all heads, then the keys, then the values. Result [batch,
// time, heads.query_width()]: softmax(q·kᵀ/√size)·v over the keys that a query sees: from the later of begins[b][t] and
// t − window + 1 up to its own position t. begins: int32 [batch, time] on the tape's device, the first position of the
// document that holds position t; never falls along a sequence, and at most t. No tensor: one document a sequence.
// highest: float32 [heads.queries] on the device, or no tensor: each is raised to the largest q·k/√size of its head, over
// all sequences and the keys that queries see.
// All scores never exist at once; the backward pass keeps the log of each row's normaliser ([batch, query heads, time],
// float32) and computes the weights again, as in FlashAttention (Dao et al. 2022). Heads: core::attention_refusal.
Variable attention(Tape& tape, const Variable& qkv, const AttentionHeads& heads, const Tensor& begins = {},
                   const Tensor& highest = {});

}  // namespace muonp::core::ops
