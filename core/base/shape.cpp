#include "core/base/shape.h"

#include <fmt/ranges.h>

#include "core/base/error.h"

namespace muonp::core {

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (std::int64_t d : shape) {
    MUONP_ASSERT(d >= 0, "shape {}", to_string(shape));
    count *= d;
  }
  return count;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace muonp::core
