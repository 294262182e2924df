// Fields of tokenizer.json, with errors that name their place.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/data/tokenizer/regex.h"

namespace muonp::core {

std::string text_field(const nlohmann::json& object, const char* name, const std::string& where);
bool flag_field(const nlohmann::json& object, const char* name, bool otherwise, const std::string& where);
// The `type` of a description; empty for null.
std::string type_of(const nlohmann::json& description, const std::string& where);
// {"String": ...} or {"Regex": ...}
Regex pattern_field(const nlohmann::json& object, const std::string& where);
// An array, with `where` of each element.
const nlohmann::json& list_field(const nlohmann::json& object, const char* name, const std::string& where);

}  // namespace muonp::core
