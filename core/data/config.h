// The section `data` of a run's configuration.
#pragma once

#include <cstdint>
#include <string>

#include "core/config/config.h"

namespace muonp::core {

struct DataConfig {
  std::string train;
  std::string validation;
  double validation_fraction = 0.1;
  std::string tokenizer = "byte";
  std::string cache;
  std::int64_t sequence = 256;
  std::int64_t batch = 32;
  std::int64_t micro_batch = 0;
  bool shuffle = true;

  void describe(Fields& fields);
};

}  // namespace muonp::core
