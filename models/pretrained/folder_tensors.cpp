#include "models/pretrained/folder_tensors.h"

#include <set>

#include "core/base/error.h"
#include "core/files/checkpoint_manifest.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"

namespace muonp::models {

namespace {

// What the index says: the file of each tensor.
std::map<std::string, std::string> weight_map(const std::string& path) {
  nlohmann::json index;
  try {
    index = core::parse_strict_json(core::read_file(path));
  } catch (const core::Error& error) {
    core::fail("{}: it is {}", path, error.what());
  }
  if (!index.is_object() || !index.contains("weight_map") || !index.at("weight_map").is_object())
    core::fail("{}: it has no weight_map, an object that gives the file of each tensor", path);
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : index.at("weight_map").items()) {
    if (!file.is_string() || !core::is_entry_name(file.get<std::string>()))
      core::fail("{}: the tensor '{}' is in {}, which is no name of a file in this folder", path, tensor,
                 file.dump(-1, ' ', true));
    files[tensor] = file.get<std::string>();
  }
  return files;
}

std::string other_formats_in(const std::string& folder) {
  for (const std::string& name : core::list_directory(folder))
    if (name.ends_with(".bin") || name.ends_with(".gguf") || name.ends_with(".h5"))
      return fmt::format("; {} is of another format, which save_pretrained() of transformers turns into safetensors", name);
  return "";
}

}  // namespace

FolderTensors::FolderTensors(const std::string& folder) : folder_(folder) {
  if (!core::is_directory(folder)) core::fail("{}: no such folder", folder);
  if (core::exists(folder + "/" + kSingleFile)) {
    const core::SafetensorsReader& file = open(kSingleFile);
    for (const auto& entry : file.entries()) tensors_[entry.spec.name] = {&file, &entry};
  } else if (core::exists(folder + "/" + kIndexFile)) {
    read_index();
  } else {
    core::fail("{}: it has neither {} nor {}{}", folder, kSingleFile, kIndexFile, other_formats_in(folder));
  }
}

const core::SafetensorsReader& FolderTensors::open(const std::string& file) {
  return files_.emplace_back(folder_ + "/" + file);
}

void FolderTensors::read_index() {
  const std::string path = folder_ + "/" + kIndexFile;
  const std::map<std::string, std::string> files = weight_map(path);
  std::set<std::string> shards;
  for (const auto& [tensor, file] : files) shards.insert(file);
  for (const std::string& shard : shards) {
    if (!core::exists(folder_ + "/" + shard)) core::fail("{}: the shard {}, which it names, is missing", path, shard);
    const core::SafetensorsReader& file = open(shard);
    for (const auto& entry : file.entries()) {
      const std::string& name = entry.spec.name;
      const auto said = files.find(name);
      if (const auto twice = tensors_.find(name); twice != tensors_.end())
        core::fail("{}: the tensor '{}' is in two shards, {} and {}", folder_, name, twice->second.file->path(),
                   file.path());
      if (said == files.end() || said->second != shard)
        core::fail("{}: the tensor '{}' is in {}, by the index in {}", path, name, shard,
                   said == files.end() ? "no shard" : said->second);
      tensors_[name] = {&file, &entry};
    }
  }
  for (const auto& [tensor, file] : files)
    if (!tensors_.contains(tensor))
      core::fail("{}: the tensor '{}' is not in {}, nor in any other shard", path, tensor, file);
}

const FolderTensors::Tensor* FolderTensors::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace muonp::models
