// Dimensions of an array, outermost first; rows lie one after the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muonp::core {

using Shape = std::vector<std::int64_t>;

// 1 for a scalar's shape {}. InternalError: a negative dimension.
std::int64_t element_count(const Shape& shape);
std::string to_string(const Shape& shape);  // "[2, 3]"

}  // namespace muonp::core
