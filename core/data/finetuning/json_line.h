// A line of a JSONL file as a JSON object. For sources: it brings the whole JSON library with it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/data/finetuning/field_template.h"

namespace muonp::core {

// BadExample: it is no JSON object.
nlohmann::json parse_json_line(std::string_view line);
// BadExample: a field is not there, or neither a text nor a whole number.
std::string fill_fields(const FieldTemplate& pattern, const nlohmann::json& object);

}  // namespace muonp::core
