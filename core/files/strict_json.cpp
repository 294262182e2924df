#include "core/files/strict_json.h"

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace muonp::core {

using Json = nlohmann::json;

Json parse_strict_json(std::string_view text) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth >= kDeepestJson) fail("JSON nested deeper than {} levels", kDeepestJson);
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key && !names.back().insert(value.get<std::string>()).second)
      fail("JSON with the name {} twice in one object", value.dump(-1, ' ', true));
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& error) {
    fail("no JSON ({})", error.what());
  }
}

bool is_count(const Json& value) {
  return value.is_number_unsigned() &&
         value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
}

}  // namespace muonp::core
