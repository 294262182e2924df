#include "core/data/finetuning/json_line.h"

#include "core/data/finetuning/example.h"
#include "core/files/strict_json.h"

namespace muonp::core {

using nlohmann::json;

json parse_json_line(std::string_view line) {
  json object;
  try {
    object = parse_strict_json(line);
  } catch (const Error& error) {
    throw BadExample(error.what());
  }
  if (object.is_array()) throw BadExample(R"(it is a list; a line is one object, as {"prompt": ..., "completion": ...})");
  if (!object.is_object()) throw BadExample("it is no object");
  return object;
}

std::string fill_fields(const FieldTemplate& pattern, const json& object) {
  return pattern.fill([&](const std::string& field) {
    const auto found = object.find(field);
    if (found == object.end()) throw BadExample(fmt::format("it has no {}", field));
    if (found->is_string()) return found->get<std::string>();
    if (found->is_number_integer()) return found->dump();
    throw BadExample(fmt::format("{} is {}, no text", field, found->type_name()));
  });
}

}  // namespace muonp::core
