// The weights that a run starts from: those of model.from or random ones, and beside them adapters, those of model.lora.from
// or new ones. Frozen weights have these values for good, and are in no checkpoint: whoever goes on with a run or reads it
// takes them from here again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/autograd/parameter.h"
#include "launch/train/run_identity.h"
#include "models/pretrained/peft.h"
#include "models/pretrained/pretrained_weights.h"

namespace muonp::launch {

class InitialWeights {
 public:
  // Opens what there is of both folders; one that is gone is missed only where something is read of it. `parameters`: all of
  // the model, as long as this object lives.
  InitialWeights(const models::ModelConfig& model, const core::ParameterList& parameters, std::int64_t seed);
  // For a reader of a run with adapters, whose paths started from saved.folder. Error: the folder of the frozen weights is
  // gone, or is not the one that the run started from.
  static InitialWeights of_run(const RunConfig& config, const core::ParameterList& parameters, const RunIdentity& saved);

  // A core::WeightFiller. Error names a folder that is gone.
  void read(const core::Parameter& parameter, std::int64_t begin, std::int64_t count, float* to) const;
  // Null for a run from scratch, and where the folder is gone.
  const models::PretrainedWeights* folder() const { return folder_.get(); }
  // Whether all of them are random.
  bool random() const { return model_.from.empty() && model_.lora.from.empty(); }

 private:
  models::ModelConfig model_;
  std::uint64_t seed_;
  std::unique_ptr<models::PretrainedWeights> folder_;
  std::unique_ptr<models::AdapterWeights> adapters_;
};

}  // namespace muonp::launch
