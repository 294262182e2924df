#include "models/pretrained/folder_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/data/tokenizer/tokenizer.h"
#include "core/files/files.h"
#include "models/pretrained/folder_tensors.h"

namespace muonp::models {

namespace {

bool is_licence(std::string_view name) {
  constexpr std::string_view kBeginnings[] = {"LICENSE", "LICENCE", "NOTICE", "USE_POLICY"};
  return std::ranges::any_of(kBeginnings, [&](std::string_view beginning) { return name.starts_with(beginning); });
}

}  // namespace

std::vector<std::string> companion_files(const std::string& folder) {
  std::vector<std::string> names = core::tokenizer_files(folder);
  for (const std::string& name : core::list_directory(folder))
    if (is_licence(name) && !core::is_directory(folder + "/" + name)) names.push_back(name);
  std::ranges::sort(names);
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
