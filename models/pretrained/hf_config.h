// The architecture that a Hugging Face folder's config.json tells of, in the spellings of transformers 4 and 5, and the
// config.json of an architecture.
#pragma once

#include <string>

#include "models/registry.h"

namespace muonp::models {

inline constexpr const char* kConfigFile = "config.json";

// model_type gpt2, llama, mistral, qwen2 or qwen3. Dropouts are those of pretraining and not taken over. Error names the
// file and the key with its value and what is valid: of anything that changes what the model computes and is not supported,
// also of keys that are not known.
ModelConfig read_hf_config(const std::string& folder);

// What transformers needs to open such a model, whose weights have `dtype` ("bfloat16"). `model` as from resolved(). Error
// lists what of the family `gpt` is in no family of transformers; with GPT-2's choices it becomes GPT-2.
std::string write_hf_config(const ModelConfig& model, const std::string& dtype);

// The text of a config.json with another dtype, and all else as it is.
std::string with_dtype(const std::string& config, const std::string& dtype, const std::string& file);

}  // namespace muonp::models
