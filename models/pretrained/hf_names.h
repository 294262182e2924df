// How parameters are called in files of Hugging Face, and which of them lie there transposed.
#pragma once

#include <string>
#include <string_view>

namespace muonp::models {

// What a model with a head calls its trunk: "transformer." of GPT-2, "model." of the others.
std::string_view trunk_prefix(std::string_view family);

// The name of a parameter of a model of `family`. Those of `gpt`, which has names of its own, become GPT-2's.
std::string hf_name(std::string_view family, const std::string& parameter);

// GPT-2 multiplies by its matrices from the other side (Conv1D): [inputs, outputs] in the file, [outputs, inputs] here.
bool is_transposed(std::string_view family, std::string_view hf_name);

// What old files hold beside weights: rotary frequencies and the masks of attention, which follow from the configuration.
bool is_no_weight(std::string_view family, std::string_view hf_name);

}  // namespace muonp::models
