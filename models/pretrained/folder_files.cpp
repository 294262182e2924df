#include "models/pretrained/folder_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "models/pretrained/folder_tensors.h"

namespace muonp::models {

namespace {

constexpr std::string_view kTokenizerFiles[] = {
    "added_tokens.json", "chat_template.jinja",     "chat_template.json", "merges.txt",           "tokenizer.json",
    "tokenizer.model",   "special_tokens_map.json", "vocab.json",         "tokenizer_config.json"};
constexpr std::string_view kOtherFiles[] = {"generation_config.json"};
constexpr std::string_view kLicences[] = {"LICENSE", "LICENCE", "NOTICE", "USE_POLICY"};

bool goes_along(std::string_view name) {
  return is_tokenizer_file(name) || std::ranges::find(kOtherFiles, name) != std::end(kOtherFiles) ||
         std::ranges::any_of(kLicences, [&](std::string_view start) { return name.starts_with(start); });
}

}  // namespace

bool is_tokenizer_file(std::string_view name) {
  return std::ranges::find(kTokenizerFiles, name) != std::end(kTokenizerFiles);
}

std::vector<std::string> companion_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const std::string& name : core::list_directory(folder))
    if (goes_along(name) && !core::is_directory(folder + "/" + name)) names.push_back(name);
  return names;
}

std::vector<Shard> plan_shards(std::span<const core::TensorSpec> tensors, std::int64_t most) {
  std::vector<Shard> shards;
  std::int64_t bytes = 0;  // of the last one
  for (const core::TensorSpec& t : tensors) {
    if (shards.empty() || bytes + t.bytes() > most) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().tensors.push_back(t);
    bytes += t.bytes();
  }
  for (std::size_t i = 0; i < shards.size(); ++i)
    shards[i].file =
        shards.size() == 1 ? kSingleFile : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

std::string write_index(std::span<const Shard> shards) {
  std::int64_t bytes = 0;
  nlohmann::ordered_json files = nlohmann::ordered_json::object();
  for (const Shard& shard : shards)
    for (const core::TensorSpec& t : shard.tensors) {
      files[t.name] = shard.file;
      bytes += t.bytes();
    }
  return nlohmann::ordered_json{{"metadata", {{"total_size", bytes}}}, {"weight_map", files}}.dump(2) + "\n";
}

}  // namespace muonp::models
