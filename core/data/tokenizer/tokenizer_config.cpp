#include "core/data/tokenizer/tokenizer_config.h"

#include <charconv>

#include "core/base/error.h"
#include "core/data/tokenizer/json_fields.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

// A token is written as its text, or as an object with it; null is none.
void read_special_tokens(const Json& content, const std::string& path, std::map<std::string, std::string>& tokens) {
  for (const auto& [name, value] : content.items()) {
    if (!name.ends_with("_token") || name.starts_with("add_")) continue;
    if (value.is_string()) tokens.emplace(name, value.get<std::string>());
    if (value.is_object()) tokens.emplace(name, text_field(value, "content", fmt::format("{}: {}", path, name)));
  }
}

void read_added_tokens(const Json& content, const std::string& path, std::vector<AddedToken>& tokens) {
  const auto list = content.find("added_tokens_decoder");
  if (list == content.end()) return;
  if (!list->is_object()) fail("{}: added_tokens_decoder is no object", path);
  for (const auto& [name, description] : list->items()) {
    const std::string where = fmt::format("{}: added_tokens_decoder.{}", path, name);
    std::int32_t id = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error != std::errc() || end != name.data() + name.size() || id < 0) fail("{}: '{}' is no id", where, name);
    tokens.push_back(read_added_token(description, id, where));
  }
}

Json read_object(const std::string& path) {
  if (!exists(path)) return Json::object();
  Json content = read_json_file(path);
  if (!content.is_object()) fail("{} is no JSON object", path);
  return content;
}

}  // namespace

Json read_json_file(const std::string& path) {
  const std::string text = read_file(path);
  try {
    return parse_strict_json(text);
  } catch (const Error& error) {
    fail("{}: {}", path, error.what());
  }
}

AddedToken read_added_token(const Json& description, std::int32_t id, const std::string& where) {
  if (!description.is_object()) fail("{} is no object", where);
  AddedToken token;
  token.content = text_field(description, "content", where);
  token.id = id;
  token.special = flag_field(description, "special", false, where);
  token.single_word = flag_field(description, "single_word", false, where);
  token.lstrip = flag_field(description, "lstrip", false, where);
  token.rstrip = flag_field(description, "rstrip", false, where);
  token.normalized = flag_field(description, "normalized", !token.special, where);
  return token;
}

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  TokenizerConfig config;
  config.path = folder + "/tokenizer_config.json";
  config.content = read_object(config.path);
  read_special_tokens(config.content, config.path, config.special_tokens);
  read_added_tokens(config.content, config.path, config.added_tokens);
  const std::string map = folder + "/special_tokens_map.json";
  read_special_tokens(read_object(map), map, config.special_tokens);
  return config;
}

}  // namespace muonp::core
