// Kernels of optim/storage/storage.h: float32 to what a state is kept as, and back.
#pragma once

#include "core/device/tensor.h"
#include "optim/storage/storage.h"

namespace muonp::optim {

// Of stochastic rounding; the random number of element i of a parameter is a function of (state, step, i) alone.
struct RoundingKey {
  std::uint64_t state = 0;  // a hash of its name
  std::uint64_t step = 0;
  bool stochastic = false;
};

// `from`, `to`: float32; codes: bfloat16, or uint8 beside float32 scales, one for each of state_blocks(first, size). The
// first element is number `first` of its flattened parameter.
void encode_bfloat16(core::Queue& queue, const core::Tensor& from, std::int64_t first, const RoundingKey& key,
                     const core::Tensor& codes);
void decode_bfloat16(core::Queue& queue, const core::Tensor& codes, const core::Tensor& to);
void encode_int8(core::Queue& queue, const core::Tensor& from, Content content, std::int64_t first, const RoundingKey& key,
                 const core::Tensor& codes, const core::Tensor& scales);
void decode_int8(core::Queue& queue, const core::Tensor& codes, const core::Tensor& scales, Content content,
                 std::int64_t first, const core::Tensor& to);

}  // namespace muonp::optim
