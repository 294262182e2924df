// Rotary positions on a packed projection (Su et al. 2021).
#pragma once

#include <span>
#include <vector>

#include "core/autograd/autograd.h"
#include "core/device/attention_shape.h"

namespace muonp::core::ops {

// base^(−2i/size) for i < size/2: the angles that the i-th pair of a head turns by from a position to the next.
std::vector<double> rotary_frequencies(std::int64_t size, double base = 10000);

// Cosine and sine, times `scale`, of the angles t·frequencies[i] of all positions t < `longest`. Computed when a device
// first asks for them, and kept for it.
class RotaryTable {
 public:
  RotaryTable(std::vector<double> frequencies, std::int64_t longest, double scale = 1);
  std::int64_t longest() const { return longest_; }
  std::int64_t head_size() const { return 2 * half(); }
  std::int64_t bytes() const { return longest_ * head_size() * size_of(Dtype::float32); }
  // [longest, 2, size/2] float32: cosines, then sines. Category::other.
  const Tensor& on(Device& device);

 private:
  std::int64_t half() const { return std::ssize(frequencies_); }

  std::vector<double> frequencies_;
  std::int64_t longest_;
  double scale_;
  Device* device_ = nullptr;
  Tensor table_;  // of device_
};

// Turns each pair (i, i + size/2) of every query and key of `qkv` [batch, time, heads.width()] by the angle of its position,
// t − begins[b][t] (as in attention.h: positions restart with every document); values are passed on. InternalError where the
// table's head size is another or its positions are too few.
Variable rotary(Tape& tape, const Variable& qkv, const AttentionHeads& heads, RotaryTable& table, const Tensor& begins = {});

// The same in generation, where sequence b has lengths[b] positions already: the position is lengths[b] + t. On a tape that
// does not record.
Variable rotary_at(Tape& tape, const Variable& qkv, const AttentionHeads& heads, RotaryTable& table,
                   std::span<const std::int64_t> lengths);

}  // namespace muonp::core::ops
