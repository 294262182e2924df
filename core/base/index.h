// An index of this project, an int, as the standard library's containers want it.
#pragma once

#include <cstddef>

namespace muonp::core {

constexpr std::size_t at(int index) { return static_cast<std::size_t>(index); }

}  // namespace muonp::core
