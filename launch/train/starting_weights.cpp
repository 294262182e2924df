#include "launch/train/starting_weights.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "models/pretrained/folder_files.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/peft.h"

namespace muonp::launch {

using nlohmann::json;

namespace {

constexpr const char* kFolder = "/pretrained";

core::StoredType stored_type(const std::string& name, const std::string& file) {
  for (const auto type : {core::StoredType::f32, core::StoredType::bf16, core::StoredType::f16, core::StoredType::f64})
    if (core::name_of(type) == name) return type;
  core::fail("{}: '{}' is no type of weights", file, name);
}

std::vector<models::PretrainedTensor> read_tensors(const std::string& file) {
  std::vector<models::PretrainedTensor> tensors;
  try {
    for (const json& t : json::parse(core::read_file(file)))
      tensors.push_back({t.at("tensor").get<std::string>(), t.at("parameter").get<std::string>(),
                         stored_type(t.at("dtype").get<std::string>(), file), t.at("transposed").get<bool>()});
  } catch (const json::exception& error) {
    core::fail("{}: no run of this program wrote it ({})", file, error.what());
  }
  return tensors;
}

std::string write_tensors(const std::vector<models::PretrainedTensor>& tensors) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const models::PretrainedTensor& t : tensors)
    list.push_back(
        {{"tensor", t.tensor}, {"parameter", t.parameter}, {"dtype", core::name_of(t.type)}, {"transposed", t.transposed}});
  return list.dump(1) + "\n";
}

// What an earlier start of this run resolved, if there is anything to go on from.
std::optional<models::ModelConfig> resolved_before(const RunConfig& config) {
  const std::string file = config.directory() + "/config.resolved.yaml";
  if (!core::exists(file) || core::CheckpointStore(config.directory() + "/checkpoints").steps().empty()) return {};
  const models::ModelConfig before = load_run_config(file, {}, core::Origin::by_the_program).model;
  return before.from == config.model.from ? std::optional(before) : std::nullopt;
}

}  // namespace

models::ModelConfig with_folder(const RunConfig& config) {
  const models::ModelConfig& model = config.model;
  if (!core::is_directory(model.from))
    if (const auto before = resolved_before(config)) return model.with_folder(*before);
  return model.with_folder(models::read_hf_config(model.from));
}

models::LoraConfig with_adapters(const RunConfig& config) {
  const models::LoraConfig& lora = config.model.lora;
  if (lora.from.empty()) return lora;
  if (!core::is_directory(lora.from))
    if (const auto before = resolved_before(config); before && before->lora.from == lora.from) return before->lora;
  return models::with_adapters(lora);
}

void keep_folder(const models::PretrainedWeights& weights, const std::string& from, const std::string& run_directory) {
  const std::string folder = run_directory + kFolder;
  core::make_directories(folder);
  std::vector<std::string> names = models::companion_files(from);
  names.emplace_back(models::kConfigFile);
  for (const std::string& name : names) core::write_file(folder + "/" + name, core::read_file(from + "/" + name));
  core::write_file(run_directory + "/" + kTensorsFile, write_tensors(weights.tensors()));
}

void copy_kept_folder(const std::string& run_directory, const std::string& to) {
  const std::string from = run_directory + kFolder, there = to + kFolder;
  if (!core::is_directory(from) || core::exists(there)) return;
  core::make_directories(there);
  for (const std::string& name : core::list_directory(from))
    core::write_file(there + "/" + name, core::read_file(from + "/" + name));
}

std::optional<KeptFolder> kept_folder(const std::string& run_directory) {
  const std::string folder = run_directory + kFolder, tensors = run_directory + "/" + kTensorsFile;
  if (!core::exists(tensors)) return {};
  return KeptFolder{folder, core::read_file(folder + "/" + models::kConfigFile), read_tensors(tensors)};
}

}  // namespace muonp::launch
