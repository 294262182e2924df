#include "core/data/tokenizer/json_fields.h"

#include "core/base/error.h"

namespace muonp::core {

using Json = nlohmann::json;

std::string text_field(const Json& object, const char* name, const std::string& where) {
  const auto field = object.find(name);
  if (field == object.end() || !field->is_string()) fail("{}.{} is no string", where, name);
  return field->get<std::string>();
}

bool flag_field(const Json& object, const char* name, bool otherwise, const std::string& where) {
  const auto field = object.find(name);
  if (field == object.end() || field->is_null()) return otherwise;
  if (!field->is_boolean()) fail("{}.{} is neither true nor false", where, name);
  return field->get<bool>();
}

std::string type_of(const Json& description, const std::string& where) {
  if (description.is_null()) return "";
  if (!description.is_object()) fail("{} is no object", where);
  return text_field(description, "type", where);
}

Regex pattern_field(const Json& object, const std::string& where) {
  const auto pattern = object.find("pattern");
  if (pattern == object.end() || !pattern->is_object()) fail("{}.pattern is no object", where);
  if (pattern->contains("Regex")) return {text_field(*pattern, "Regex", where + ".pattern"), where + ".pattern.Regex"};
  return Regex::literal(text_field(*pattern, "String", where + ".pattern"));
}

const Json& list_field(const Json& object, const char* name, const std::string& where) {
  const auto field = object.find(name);
  if (field == object.end() || !field->is_array()) fail("{}.{} is no list", where, name);
  return *field;
}

}  // namespace muonp::core
