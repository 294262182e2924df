// Causal multi-head attention from a packed projection, and rotary positions on it.
#pragma once

#include "core/autograd/autograd.h"

namespace muonp::core::ops {

// qkv: [batch, time, 3·width], each row is the queries of all heads, then the keys, then the values; head h has columns
// [h·d, (h + 1)·d) of each, d = width / heads. Result [batch, time, width]: softmax(q·kᵀ/√d)·v over positions up to the
// query's own. Works by blocks of queries; the backward pass keeps the log of each row's normaliser ([batch, heads, time],
// float32) and computes the weights again, as in FlashAttention (Dao et al. 2022).
Variable attention(Tape& tape, const Variable& qkv, std::int64_t heads);

// The angles t·10000^(−2i/d) of all positions t < `longest`, for heads of the even size d. Computed when a device first
// asks for them, and kept for it.
class RotaryTable {
 public:
  RotaryTable(std::int64_t longest, std::int64_t head_size);
  std::int64_t longest() const { return longest_; }
  std::int64_t head_size() const { return 2 * half_; }
  std::int64_t bytes() const { return longest_ * 2 * half_ * size_of(Dtype::float32); }
  // [longest, 2, d/2] float32: cosines, then sines. Category::other.
  const Tensor& on(Device& device);

 private:
  std::int64_t longest_, half_;
  Device* device_ = nullptr;
  Tensor table_;  // of device_
};

// Turns each pair (i, i + d/2) of every query and key of `qkv` by the angle of its position (Su et al. 2021); values are
// passed on. InternalError where the table's head size is another or its positions are too few.
Variable rotary(Tape& tape, const Variable& qkv, std::int64_t heads, RotaryTable& table);

}  // namespace muonp::core::ops
