// JSON from a file that may be damaged or hostile. For sources: it brings the whole JSON library with it.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace muonp::core {

// Levels of lists and objects that a file may have; what this program writes has at most 5. The library's
// printing is recursive, so that a text of brackets alone would take the whole stack.
inline constexpr int kDeepestJson = 64;

// Error, without the file's name: it is no JSON, nested deeper than kDeepestJson, or an object has a name
// twice (the library alone would keep the last one).
nlohmann::json parse_strict_json(std::string_view text);

// An integer ≥ 0 that fits in 64 bits with sign; a fraction, however whole, is none.
bool is_count(const nlohmann::json& value);

}  // namespace muonp::core
