// Rotary positions in a config.json: `rope_theta` beside `rope_scaling` (transformers 4), or `rope_parameters` (5).
#pragma once

#include "models/layers/rope.h"
#include "models/pretrained/hf_keys.h"

namespace muonp::models {

// `context` is max_position_embeddings. Error names the key, its value and what is valid.
RopeConfig read_hf_rope(const HfKeys& keys, std::int64_t context);

// rope_theta and rope_scaling, which both versions read.
void write_hf_rope(const RopeConfig& rope, std::int64_t context, nlohmann::ordered_json& to);

}  // namespace muonp::models
