// The tensors of a Hugging Face folder: model.safetensors, or model.safetensors.index.json and the shards that it names.
// Headers are read at once, data when they are asked for.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "core/files/safetensors.h"

namespace muonp::models {

inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

class FolderTensors {
 public:
  // Error, which names the file and what is wrong: neither is there, a shard is missing or leads out of the folder, a file
  // is no valid safetensors file, or index and shards disagree about which shard has a tensor.
  explicit FolderTensors(const std::string& folder);

  struct Tensor {
    const core::SafetensorsReader* file;
    const core::SafetensorsReader::Entry* entry;
  };
  const std::map<std::string, Tensor>& all() const { return tensors_; }  // by name
  const Tensor* find(const std::string& name) const;                     // null if absent
  const std::string& folder() const { return folder_; }

 private:
  const core::SafetensorsReader& open(const std::string& file);
  void read_index();

  std::string folder_;
  std::deque<core::SafetensorsReader> files_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace muonp::models
