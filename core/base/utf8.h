// UTF-8 as defined by RFC 3629: shortest form, no surrogates, at most U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace muonp::core {

// Bytes of the character at the beginning of `text`; 0 if what stands there is no character.
std::size_t utf8_length(std::string_view text);

// `at` or the nearest position before it where a character begins (or 0): where a text may be cut.
std::size_t utf8_cut(std::string_view text, std::size_t at);

}  // namespace muonp::core
