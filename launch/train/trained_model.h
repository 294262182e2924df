// A run's model as a checkpoint left it, for evaluation and generation on one process.
#pragma once

#include <memory>
#include <string>

#include "core/autograd/plain_parameters.h"
#include "core/data/tokenizer/tokenizer.h"
#include "core/files/checkpoint_store.h"
#include "launch/program/session.h"
#include "launch/train/run_config.h"
#include "launch/train/run_identity.h"
#include "models/model.h"

namespace muonp::launch {

struct TrainedModel {
  RunConfig config;  // its data section leads somewhere from here (launch/train/run_reading.h)
  core::TokenizerHandle tokenizer;
  RunIdentity identity;  // of the checkpoint
  std::int64_t step = 0;
  std::unique_ptr<models::LanguageModel> model;
  std::unique_ptr<core::PlainParameters> parameters;  // destroyed before the model it points to
};

// `checkpoint` is "latest", a step, or a checkpoint's folder. Verified.
core::Checkpoint open_checkpoint(const std::string& run_directory, const std::string& checkpoint);

// `run_directory` is what `muonp train` wrote; `checkpoint` is "latest", a step, a checkpoint's folder, or a file that
// `muonp checkpoint export` wrote. Error names what is missing, and how model or tokenizer differ from the checkpoint's; a
// warning, what the checkpoint does not say.
TrainedModel load_trained_model(Session& session, const std::string& run_directory, const std::string& checkpoint);

}  // namespace muonp::launch
