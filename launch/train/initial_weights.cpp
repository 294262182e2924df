#include "launch/train/initial_weights.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/files/files.h"
#include "launch/train/run_reading.h"

namespace muonp::launch {

InitialWeights::InitialWeights(const models::ModelConfig& model, const core::ParameterList& parameters, std::int64_t seed)
    : model_(model), seed_(static_cast<std::uint64_t>(seed)) {
  const core::ParameterList own = model.lora.on() ? core::frozen_of(parameters) : parameters;
  if (core::is_directory(model.from)) folder_ = std::make_unique<models::PretrainedWeights>(model.from, model, own);
  if (core::is_directory(model.lora.from))
    adapters_ = std::make_unique<models::AdapterWeights>(model.lora.from, model, parameters);
}

InitialWeights InitialWeights::of_run(const RunConfig& config, const core::ParameterList& parameters,
                                      const RunIdentity& saved) {
  models::ModelConfig model = config.model;
  model.from = located(model.from, saved.folder);
  model.lora.from.clear();  // the run's own are in its checkpoint
  InitialWeights weights(model, parameters, config.run.seed);
  const auto was = std::ranges::find(saved.values, kStartingWeights, &core::NamedValue::name);
  if (weights.folder_ && was != saved.values.end() && weights.folder_->identity() != was->value)
    core::fail("{}: it has {}, and the run's frozen weights are {}; the folder has been changed since", model.from,
               weights.folder_->identity(), was->value);
  return weights;
}

void InitialWeights::read(const core::Parameter& parameter, std::int64_t begin, std::int64_t count, float* to) const {
  const bool factor = parameter.partner != nullptr;
  const std::string& folder = factor ? model_.lora.from : model_.from;
  if (folder.empty()) return core::initialize(parameter, seed_, begin, count, to);
  if (factor ? adapters_ == nullptr : folder_ == nullptr)
    core::fail("{}: no such folder; {}", folder,
               factor ? "its adapters are those that the run starts from"
                      : "its weights are frozen in this run, whose checkpoints hold the adapters alone");
  if (factor) return adapters_->read(parameter, begin, count, to);
  folder_->read(parameter, begin, count, to);
}

}  // namespace muonp::launch
