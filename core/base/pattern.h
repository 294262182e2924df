// Patterns that choose names.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace muonp::core {

// * matches any run of characters, dots included; ? matches one.
bool matches_pattern(std::string_view pattern, std::string_view text);

// The three names that take the fewest edits to match, nearest first, separated by commas: for a message.
std::string nearest_to_pattern(std::string_view pattern, std::span<const std::string> names);

}  // namespace muonp::core
