// The one reduction kernel that every communicator uses, so that all forms give the same bits.
#pragma once

#include <cstdint>
#include <span>

#include "dist/comm/communicator.h"

namespace muonp::dist {

// to[i] = sources[0][i] op sources[1][i] op ... in that order, for `count` elements of `dtype`. `to` may be
// one of the sources. float32 sums round after each addition; bfloat16 and float16 are summed in float32 and
// rounded once; int32 sums wrap. A NaN in any source gives NaN, for max and min too.
void reduce_in_order(std::span<const void* const> sources, void* to, std::int64_t count, core::Dtype dtype, Reduce op);
// The same for doubles.
void reduce_in_order(std::span<const double* const> sources, double* to, std::int64_t count, Reduce op);

}  // namespace muonp::dist
