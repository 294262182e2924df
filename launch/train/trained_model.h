// A model that is there: of a run, as a checkpoint left it, or of a Hugging Face folder. For evaluation and generation;
// every rank has all of it.
#pragma once

#include <memory>
#include <string>

#include "core/autograd/plain_parameters.h"
#include "core/data/tokenizer/tokenizer.h"
#include "core/files/checkpoint_store.h"
#include "launch/inference/subject.h"
#include "launch/program/session.h"
#include "launch/train/run_config.h"
#include "launch/train/run_identity.h"
#include "models/model.h"

namespace muonp::launch {

struct ModelSource {
  std::string path;                   // a run that `muonp train` wrote, or a Hugging Face folder
  std::string checkpoint = "latest";  // of a run: or a step, a checkpoint's folder, or a file from `muonp checkpoint export`
  std::string compute;                // float32 or bfloat16; empty: the run's, float32 for a folder
};

struct TrainedModel {
  RunConfig config;  // its data section leads somewhere from here (launch/train/run_reading.h); of a folder, with defaults
  bool is_run = false;
  core::TokenizerHandle tokenizer;
  std::vector<std::int32_t> stop_tokens;  // of the folder, and of a run also the tokenizer's end, with which examples end
  RunIdentity identity;                   // of the checkpoint
  std::int64_t step = 0;
  std::unique_ptr<models::LanguageModel> model;
  std::unique_ptr<core::PlainParameters> parameters;  // destroyed before the model it points to
};

// `checkpoint` is "latest", a step, or a checkpoint's folder. Verified.
core::Checkpoint open_checkpoint(const std::string& run_directory, const std::string& checkpoint);

// The end tokens for a run whose model started from `folder`; with an empty one, or one that is gone, of <run>/pretrained.
std::vector<std::int32_t> stop_tokens_of_run(const std::string& folder, const std::string& run_directory,
                                             const core::Tokenizer& tokenizer);

// Collective. Error on all ranks names what is missing, how model or tokenizer differ from the checkpoint's, or that there
// is neither run nor folder; a warning, what the checkpoint does not say.
TrainedModel open_trained_model(Session& session, const ModelSource& source);

// It refers to both.
Subject subject_of(Session& session, const TrainedModel& trained);

}  // namespace muonp::launch
