// A place in the configuration that names files of data.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/data/config.h"
#include "core/data/data_files.h"

namespace muonp::core {

struct DataPart {
  std::string key, path;
  std::string text() const { return key + ": " + path; }  // for messages
  // As data_files(); Error also if all of them are empty.
  std::vector<std::string> files() const;
};

inline DataPart train_part(const DataConfig& config) { return {"data.train", config.train}; }
inline DataPart validation_part(const DataConfig& config) { return {"data.validation", config.validation}; }
DataPart mix_part(const DataConfig& config, std::size_t i);

}  // namespace muonp::core
