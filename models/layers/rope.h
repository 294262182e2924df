// Rotary positions (Su et al. 2021) and the published ways to stretch them over longer contexts. Pair i of a head of size d
// is turned by t·f_i at position t; a kind says what f_i is, and what queries and keys are multiplied by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/config.h"

namespace muonp::models {

struct RopeConfig {
  // default: f_i = theta^(−2i/d).
  // linear: f_i / factor ("position interpolation", Chen et al. 2023).
  // dynamic: a sequence of T > original_context tokens has the theta that stretches the lowest frequency to T ("dynamic
  // NTK"). llama3: low frequencies are divided by factor, high ones are not, those between are blended (Llama 3.1). yarn:
  // the same by the number of turns within original_context, and a temperature (Peng et al. 2023, "YaRN").
  std::string kind = "default";
  double theta = 10000;
  double factor = 1;                                           // all kinds but default
  std::int64_t original_context = 0;                           // dynamic, llama3, yarn; 0: the model's context
  double low_frequency_factor = 1, high_frequency_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;                        // yarn: turns between which frequencies are blended
  double attention_factor = 0;                                 // yarn: 0 stands for the published 0.1·ln(factor) + 1
  double mscale = 0, mscale_all_dim = 0;                       // yarn: both given, the ratio of two such factors instead
  bool truncate = true;                                        // yarn: the ends of the blend are whole pairs

  bool counts_from_original_context() const { return kind == "dynamic" || kind == "llama3" || kind == "yarn"; }

  void describe(core::Fields& fields);
  // Error names the key ("model.rope.factor") and what is valid. `context` is the model's.
  void check(std::int64_t head_size, std::int64_t context) const;
  bool operator==(const RopeConfig&) const = default;
};

struct RopeFrequencies {
  std::vector<double> frequencies;  // head_size / 2 of them, radians a position
  double scale = 1;                 // of cosines and sines, and so of queries and keys
};
// For sequences of `time` tokens, on which only `dynamic` depends.
RopeFrequencies rope_frequencies(const RopeConfig& config, std::int64_t head_size, std::int64_t context, std::int64_t time);

}  // namespace muonp::models
