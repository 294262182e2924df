// The choice of a token from a model's logits.
#pragma once

#include <cstdint>
#include <span>

namespace muonp::models {

// Applied in this order, as transformers does.
struct SamplingOptions {
  double repetition_penalty = 1;  // of tokens that the text has: logits above 0 are divided by it, those below multiplied
  double temperature = 1;         // logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;         // only the k most likely tokens; 0: all
  double top_p = 1;               // of these, the fewest most likely ones whose probabilities sum to at least top_p
};

// Error names an option out of range by its name in the options.
void check(const SamplingOptions& options);

// One token from the distribution that the options make of the logits of a text's next token. The choice depends on
// (logits, text, seed) and on the token's place, text.size(), only. Ties are broken towards the lower id. Error if a logit
// is not finite or an option is out of range.
std::int32_t sample_token(std::span<const float> logits, std::span<const std::int32_t> text, const SamplingOptions& options,
                          std::uint64_t seed);

}  // namespace muonp::models
