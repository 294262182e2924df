// Elements of a rectangle of a parameter, dense.
#pragma once

#include "core/device/device.h"
#include "dist/plan/rectangle.h"
#include "dist/plan/shard_plan.h"

namespace muonp::dist {

// Between a piece of a parameter, which begins at element `begin` of it, and elements [elements.begin, elements.end) of the
// rectangle, which lie in that piece, one behind the other.
void pack(core::Queue& queue, const Rectangle& where, Interval elements, const float* piece, std::int64_t begin,
          float* packed);
void unpack(core::Queue& queue, const Rectangle& where, Interval elements, const float* packed, float* piece,
            std::int64_t begin);

}  // namespace muonp::dist
