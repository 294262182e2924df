// Text from a language model: one token at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "models/model.h"

namespace muonp::models {

struct SamplingOptions {
  double temperature = 1;  // logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;  // only the k most likely tokens; 0: all
  std::uint64_t seed = 0;
};

// One token from the distribution softmax(logits / temperature) over the top_k. `index` is the token's place
// in the text: the choice depends on (logits, seed, index) only. Ties are broken towards the lower id. Error
// if a logit is not finite or an option is out of range.
std::int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, std::uint64_t index);

// Continues `prompt` (at least one token) by `count` tokens and returns the continuation. The model sees at
// most the last model.context() tokens and is evaluated anew for each. on_token, if set, is called with every
// token at once; false from it ends the text.
std::vector<std::int32_t> generate(core::Device& device, LanguageModel& model, std::span<const std::int32_t> prompt,
                                   std::int64_t count, const SamplingOptions& options,
                                   const std::function<bool(std::int32_t)>& on_token = {});

}  // namespace muonp::models
