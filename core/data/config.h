// The section `data` of a run's configuration.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/config.h"

namespace muonp::core {

// Examples that are trained on beside those of data.train.
struct MixedFile {
  std::string file;
  double weight = 1;
  void describe(Fields& fields);
};

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
  // Of examples (JSONL).
  std::string text = "{text}", prompt = "{prompt}", completion = "{completion}", messages = "messages";
  std::string chat_template;
  std::string loss = "completion", too_long = "truncate";
  bool packing = false, skip_bad = false;
  std::vector<MixedFile> mix;

  void describe(Fields& fields);
};

}  // namespace muonp::core
