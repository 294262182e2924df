// A model with its tokenizer, to be evaluated or to write: one that was opened for that, or one that is being trained.
#pragma once

#include <string>
#include <vector>

#include "core/data/tokenizer/tokenizer.h"
#include "dist/comm/communicator.h"
#include "models/generation/generate.h"
#include "models/model.h"

namespace muonp::launch {

struct Subject {
  core::Device& device;
  dist::Communicator& communicator;  // of the ranks that share the work
  models::LanguageModel& model;
  core::TokenizerHandle tokenizer;
  std::vector<std::int32_t> stop_tokens = {};  // a text ends with one of them
  core::Dtype compute = core::Dtype::float32;
  models::OpenPass open_pass = {};  // as of models::generate(); of this rank alone where `passes_together` is false
  // Weights are gathered for each forward pass (ZeRO stage 3), so that all ranks make as many.
  bool passes_together = false;
};

// The ids that end a text of the model in a Hugging Face folder: `eos_token_id` of generation_config.json, or of config.json
// where that file is not there or does not say. Empty: the folder does not say. Error: a file is damaged, or the key is
// neither an id nor a list of ids.
std::vector<std::int32_t> read_stop_tokens(const std::string& folder);

// Error if the tokenizer has ids that the model lacks.
void require_fitting_tokenizer(const Subject& subject);

// The ids of a text that a model is to go on from or is evaluated on, with the begin (end) token where the tokenizer's
// original puts one.
std::vector<std::int32_t> encode_prompt(const core::Tokenizer& tokenizer, std::string_view text);

}  // namespace muonp::launch
