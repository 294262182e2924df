// A run's weights as a folder that transformers opens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/base/dtype.h"
#include "core/files/checkpoint_store.h"

namespace muonp::launch {

struct ExportOptions {
  std::optional<core::Dtype> dtype;  // none: of each tensor as the run read it, float32 for a run from scratch
  std::int64_t shard_bytes = 5'000'000'000;
  bool merge = false;  // of a run with adapters: their products are added to the frozen weights, which are written whole
};

struct ExportReport {
  std::int64_t tensors = 0, bytes = 0, files = 0;  // of weights
  std::string dtype;                               // "bfloat16"; "mixed types" where they differ
  bool tokenizer = false;                          // whether one went along
};

// Writes config.json, model.safetensors (or shards and their index), and the tokenizer's and template's files that the run
// kept. Of a run with adapters, unless they are merged, adapter_config.json and adapter_model.safetensors, which PEFT opens.
// The folder gets its name in one step when everything in it is on disk; until then it is beside, under a temporary
// name, and it is removed where this throws. Works in blocks: memory does not grow with the model. `written` gets the
// tensors' elements written so far and how many there are, at least once a second. Error: `folder` exists and is not empty;
// the model is none that transformers has; a value is beyond float16's range; as AtomicFile.
ExportReport export_folder(const std::string& run_directory, const core::Checkpoint& checkpoint, const std::string& folder,
                           const ExportOptions& options, const std::function<void(std::int64_t, std::int64_t)>& written);

}  // namespace muonp::launch
