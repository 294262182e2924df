// What a Hugging Face folder says about its tokenizer beside the tokenizer itself: tokenizer_config.json and
// special_tokens_map.json.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/data/tokenizer/added_tokens.h"

namespace muonp::core {

struct TokenizerConfig {
  // "bos_token" → "<s>" and its like; of both files, tokenizer_config.json first.
  std::map<std::string, std::string> special_tokens;
  std::vector<AddedToken> added_tokens;  // added_tokens_decoder
  nlohmann::json content;                // tokenizer_config.json; an empty object where there is none
  std::string path;                      // of it
};

// Error: one of the files is damaged. A missing one says nothing.
TokenizerConfig read_tokenizer_config(const std::string& folder);
// The file's JSON. Error begins with its path.
nlohmann::json read_json_file(const std::string& path);
// {"content": "<s>", "lstrip": false, ...}
AddedToken read_added_token(const nlohmann::json& description, std::int32_t id, const std::string& where);

}  // namespace muonp::core
