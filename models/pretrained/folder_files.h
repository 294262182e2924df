// The files of a Hugging Face folder beside what its config.json says: how tensors are shared out to files, and what goes
// along with them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files/safetensors.h"

namespace muonp::models {

// Tokenizer, chat template, generation's settings, licence: the names of those files in `folder`, sorted.
std::vector<std::string> companion_files(const std::string& folder);
bool is_tokenizer_file(std::string_view name);

struct Shard {
  std::string file;
  std::vector<core::TensorSpec> tensors;
};
// In the order of the tensors, each shard with at most `most` bytes of data, or with one tensor that is larger. A single one
// is model.safetensors.
std::vector<Shard> plan_shards(std::span<const core::TensorSpec> tensors, std::int64_t most);
// Of more than one shard: the text of model.safetensors.index.json.
std::string write_index(std::span<const Shard> shards);

}  // namespace muonp::models
