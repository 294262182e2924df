#include "models/pretrained/hf_names.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace muonp::models {

namespace {

bool is_gpt(std::string_view family) { return family == "gpt" || family == "gpt2"; }

// Of the family gpt, and GPT-2's, without the number of the block.
constexpr std::pair<std::string_view, std::string_view> kInBlock[] = {
    {"attention_norm", "ln_1"}, {"attention.qkv", "attn.c_attn"}, {"attention.projection", "attn.c_proj"},
    {"mlp_norm", "ln_2"},       {"mlp.up", "mlp.c_fc"},           {"mlp.down", "mlp.c_proj"}};
constexpr std::pair<std::string_view, std::string_view> kOutside[] = {{"token_embedding", "transformer.wte"},
                                                                      {"position_embedding", "transformer.wpe"},
                                                                      {"final_norm", "transformer.ln_f"},
                                                                      {"head", "lm_head"}};

template <class Table>
std::string translated(const Table& table, const std::string& parameter, std::string_view name) {
  const std::size_t dot = name.rfind('.');
  const auto* found = std::ranges::find(table, name.substr(0, dot), [](const auto& pair) { return pair.first; });
  if (found == std::end(table)) core::fail("the parameter {} has no name in GPT-2", parameter);
  return std::string(found->second) + std::string(name.substr(dot));
}

std::string gpt2_name(const std::string& parameter) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!parameter.starts_with(kBlocks)) return translated(kOutside, parameter, parameter);
  const std::size_t dot = parameter.find('.', kBlocks.size());
  const std::string number = parameter.substr(kBlocks.size(), dot - kBlocks.size());
  return "transformer.h." + number + "." + translated(kInBlock, parameter, std::string_view(parameter).substr(dot + 1));
}

}  // namespace

std::string_view trunk_prefix(std::string_view family) { return is_gpt(family) ? "transformer." : "model."; }

std::string hf_name(std::string_view family, const std::string& parameter) {
  return family == "gpt" ? gpt2_name(parameter) : parameter;
}

bool is_transposed(std::string_view family, std::string_view name) {
  constexpr std::string_view kConv1d[] = {".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight",
                                          ".mlp.c_proj.weight"};
  return is_gpt(family) && std::ranges::any_of(kConv1d, [&](std::string_view end) { return name.ends_with(end); });
}

bool is_no_weight(std::string_view family, std::string_view name) {
  if (is_gpt(family)) return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
  return name.ends_with("rotary_emb.inv_freq");
}

}  // namespace muonp::models
