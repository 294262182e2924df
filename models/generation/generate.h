// Text from a language model: many prompts at once, one token of each at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/generation/sampling.h"
#include "models/model.h"

namespace muonp::models {

struct Prompt {
  std::vector<std::int32_t> tokens;  // at least one
  std::uint64_t seed = 0;            // of its choices: they do not depend on the other prompts
};

struct GenerationOptions {
  std::int64_t tokens = 0;  // added to a prompt at most
  SamplingOptions sampling;
  std::vector<std::int32_t> stop_tokens = {};  // a text ends behind the first of them
  bool cache = true;                           // keep keys and values of what was read; false: read all anew for every token
  core::Dtype compute = core::Dtype::float32;  // of the model's activations
};

// A tape that does not record, for the next forward pass. Where weights are gathered for a pass, it prepares that.
using OpenPass = std::function<core::Tape()>;
// Called with every token at once, and the index of its prompt; false ends that text.
using OnToken = std::function<bool(std::size_t prompt, std::int32_t token)>;

// The continuations, each with the stop token that ended it. The model sees at most the last model.context() tokens: where a
// text is longer, it is read anew for each token. All ranks of a sharded model call it with the same prompts and options.
std::vector<std::vector<std::int32_t>> generate(core::Device& device, LanguageModel& model, std::span<const Prompt> prompts,
                                                const GenerationOptions& options, const OnToken& on_token = {},
                                                const OpenPass& open_pass = {});

}  // namespace muonp::models
