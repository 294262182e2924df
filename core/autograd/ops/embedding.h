// Rows of a table, chosen by token.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// tokens: int32 [batch, time]; table: [vocabulary, width]; positions: [context, width] or null; places: int32 [batch, time],
// the row of `positions` of each token, or no tensor: its time index. Result [batch, time, width] in the table's dtype:
// table[token] + positions[place]. A token outside [0, vocabulary) is an Error that names it, its place and the vocabulary.
// The gradient of a row is the sum over the tokens that chose it, in the order of the batch: no atomics.
Variable embedding(Tape& tape, const Tensor& tokens, Parameter& table, Parameter* positions, const Tensor& places = {});

// Error if an id lies outside [0, vocabulary), or is −1 where `allow_ignored` is not set; `what` begins the
// message.
void check_tokens(const Tensor& tokens, std::int64_t vocabulary, bool allow_ignored, const char* what);

}  // namespace muonp::core::ops
