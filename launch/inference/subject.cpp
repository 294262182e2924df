#include "launch/inference/subject.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"

namespace muonp::launch {

using nlohmann::json;

namespace {

std::int32_t id_of(const json& value, const std::string& file) {
  if (core::is_count(value) && value.get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max())
    return value.get<std::int32_t>();
  core::fail("{}: eos_token_id: {} is no id; it is one, or a list of ids", file, value.dump());
}

std::optional<std::vector<std::int32_t>> end_ids(const std::string& file) {
  if (!core::exists(file)) return {};
  json content;
  try {
    content = core::parse_strict_json(core::read_file(file));
  } catch (const core::Error& error) {
    core::fail("{}: {}", file, error.what());
  }
  if (!content.is_object()) core::fail("{} is no JSON object", file);
  const auto found = content.find("eos_token_id");
  if (found == content.end() || found->is_null()) return {};
  std::vector<std::int32_t> ids;
  if (!found->is_array()) return {{id_of(*found, file)}};
  for (const json& value : *found) ids.push_back(id_of(value, file));
  return ids;
}

}  // namespace

std::vector<std::int32_t> read_stop_tokens(const std::string& folder) {
  for (const char* name : {"/generation_config.json", "/config.json"})
    if (const auto ids = end_ids(folder + name)) return *ids;
  return {};
}

void require_fitting_tokenizer(const Subject& subject) {
  const core::Tokenizer& tokenizer = *subject.tokenizer;
  if (tokenizer.vocabulary() > subject.model.vocabulary())
    core::fail("the tokenizer {} has {} ids, the model {}; name the tokenizer it was trained with", tokenizer.name(),
               tokenizer.vocabulary(), subject.model.vocabulary());
}

std::vector<std::int32_t> encode_prompt(const core::Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids;
  if (tokenizer.adds_begin() && tokenizer.begin() >= 0) ids.push_back(tokenizer.begin());
  tokenizer.encode(text, ids);
  return ids;
}

}  // namespace muonp::launch
