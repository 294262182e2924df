// An index of this project, a signed integer or an enumerator, as the standard library's containers want it.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace muonp::core {

template <class Index>
requires std::integral<Index> || std::is_enum_v<Index>
constexpr std::size_t at(Index index) { return static_cast<std::size_t>(index); }

}  // namespace muonp::core
