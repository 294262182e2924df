// A run that starts from a Hugging Face folder (model.from): what it takes from there, and what the run's own folder keeps
// of it, so that the run goes on, is read and is exported when that folder is gone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/train/run_config.h"
#include "models/pretrained/pretrained_weights.h"

namespace muonp::launch {

// The model section with what the folder's config.json says. A folder that is gone is not needed any more by a run that has
// checkpoints: what it said is then in the run's config.resolved.yaml. Error if there is neither.
models::ModelConfig with_folder(const RunConfig& config);
// Likewise the section model.lora, with what model.lora.from says, if it is given.
models::LoraConfig with_adapters(const RunConfig& config);

inline constexpr const char* kTensorsFile = "pretrained/tensors.json";

// What <run>/pretrained holds.
struct KeptFolder {
  std::string folder;
  std::string config;                             // the text of the source's config.json
  std::vector<models::PretrainedTensor> tensors;  // of the source
};
// Writes it: config.json, tokenizer and other companions, and tensors.json, the names and types of the tensors.
void keep_folder(const models::PretrainedWeights& weights, const std::string& from, const std::string& run_directory);
// Beside a line of the run that is set aside (launch/train/descent.h).
void copy_kept_folder(const std::string& run_directory, const std::string& to);
// Nothing for a run that was not started from a folder.
std::optional<KeptFolder> kept_folder(const std::string& run_directory);

}  // namespace muonp::launch
