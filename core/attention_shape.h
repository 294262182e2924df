// What attention on the CPU and on a GPU have in common: the shape, and the scratch memory that plans count.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"

namespace muonp::core {

struct AttentionShape {
  std::int64_t batch, time, heads, head_size;
  std::int64_t width() const { return heads * head_size; }
};

// Queries that a GPU takes at once, all heads: their scores are enough to fill it and little beside a layer's
// activations.
inline std::int64_t gpu_query_rows(const AttentionShape& s) {
  constexpr std::int64_t kScores = 16 << 20, kLeastRows = 64;
  const std::int64_t rows = kScores / (s.heads * s.time) / kLeastRows * kLeastRows;
  return std::min(s.time, std::max(kLeastRows, rows));
}

// Bytes of scratch memory of the backward pass; on the CPU for the calling thread's number of OpenMP threads.
std::int64_t attention_backward_scratch(const AttentionShape& shape, Dtype dtype, DeviceKind device);

}  // namespace muonp::core
