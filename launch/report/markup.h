// Text in SVG and HTML.
#pragma once

#include <string>
#include <string_view>

namespace muonp::launch {

// Text as it may stand between tags and in an attribute in double quotes: &, <, > and " are entities, control characters
// spaces.
std::string escaped(std::string_view text);

}  // namespace muonp::launch
