#include "core/data/data_part.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/files/files.h"

namespace muonp::core {

std::vector<std::string> DataPart::files() const {
  std::vector<std::string> files = data_files(path, key);
  if (std::ranges::all_of(files, [](const std::string& f) { return file_size(f) == 0; })) fail("{}: {} is empty", key, path);
  return files;
}

DataPart mix_part(const DataConfig& config, std::size_t i) {
  return {fmt::format("data.mix.{}.file", i), config.mix[i].file};
}

}  // namespace muonp::core
