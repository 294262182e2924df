#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/error.h"
#include "models/pretrained/hf_config.h"
#include "models/pretrained/hf_rope.h"

namespace muonp::models {

namespace {

using nlohmann::ordered_json;

constexpr int kIndent = 2;
constexpr double kStddev = 0.02;  // of transformers, where it makes weights of its own

struct Class {
  std::string_view family, name;
};
constexpr Class kClasses[] = {{"llama", "LlamaForCausalLM"},
                              {"mistral", "MistralForCausalLM"},
                              {"qwen2", "Qwen2ForCausalLM"},
                              {"qwen3", "Qwen3ForCausalLM"}};

ordered_json head_of(std::string_view architecture, std::string_view family, const std::string& dtype) {
  return {{"architectures", {architecture}}, {"model_type", family}, {"torch_dtype", dtype}, {"use_cache", true}};
}

// What a GPT has that GPT-2 has not.
std::vector<std::string> not_gpt2(const GptConfig& c) {
  std::vector<std::string> keys;
  if (c.positions != "learned") keys.push_back("model.positions: " + c.positions);
  if (c.activation != "gelu") keys.push_back("model.activation: " + c.activation);
  if (c.norm != "layer_norm") keys.push_back("model.norm: " + c.norm);
  if (!c.bias) keys.emplace_back("model.bias: false");
  return keys;
}

ordered_json gpt2_json(const GptConfig& c, const std::string& dtype) {
  if (const std::vector<std::string> keys = not_gpt2(c); !keys.empty())
    core::fail(
        "no model of transformers has this GPT's {}; GPT-2 has model.positions: learned, model.activation: gelu, "
        "model.norm: "
        "layer_norm and model.bias: true. `muonp checkpoint export` writes the weights of any model",
        fmt::join(keys, ", "));
  ordered_json j = head_of("GPT2LMHeadModel", "gpt2", dtype);
  j["vocab_size"] = c.vocabulary;
  j["n_positions"] = c.context;
  j["n_embd"] = c.width;
  j["n_layer"] = c.layers;
  j["n_head"] = c.heads;
  j["n_inner"] = c.hidden();
  j["activation_function"] = "gelu_new";
  for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) j[key] = 0.0;
  j["layer_norm_epsilon"] = 1e-5;
  j["initializer_range"] = kStddev;
  j["tie_word_embeddings"] = c.tied_head;
  j["bos_token_id"] = nullptr;
  j["eos_token_id"] = nullptr;
  return j;
}

ordered_json llama_json(const ModelConfig& model, std::string_view architecture, const std::string& dtype) {
  const LlamaConfig& c = model.llama;
  ordered_json j = head_of(architecture, model.family, dtype);
  j["vocab_size"] = c.vocabulary;
  j["max_position_embeddings"] = c.context;
  j["hidden_size"] = c.width;
  j["intermediate_size"] = c.hidden;
  j["num_hidden_layers"] = c.layers;
  j["num_attention_heads"] = c.heads;
  j["num_key_value_heads"] = c.kv_heads;
  j["head_dim"] = c.head_size;
  j["hidden_act"] = "silu";
  j["rms_norm_eps"] = c.norm_epsilon;
  j["initializer_range"] = kStddev;
  j["tie_word_embeddings"] = c.tied_head;
  j["attention_dropout"] = 0.0;
  write_hf_rope(c.rope, c.context, j);
  if (model.family != "llama") j["sliding_window"] = c.window > 0 ? ordered_json(c.window) : ordered_json();
  if (model.family.starts_with("qwen")) {
    j["use_sliding_window"] = c.window > 0;
    j["max_window_layers"] = c.window > 0 ? 0 : c.layers;
  }
  j["bos_token_id"] = nullptr;
  j["eos_token_id"] = nullptr;
  return j;
}

ordered_json json_of(const ModelConfig& model, const std::string& dtype) {
  for (const Class& c : kClasses)
    if (c.family == model.family) return llama_json(model, c.name, dtype);
  return gpt2_json(model.gpt, dtype);
}

}  // namespace

std::string write_hf_config(const ModelConfig& model, const std::string& dtype) {
  return json_of(model, dtype).dump(kIndent) + "\n";
}

// Transformers 4 writes torch_dtype, 5 dtype, and reads both.
std::string with_dtype(const std::string& config, const std::string& dtype, const std::string& file) {
  ordered_json j = ordered_json::parse(config, nullptr, false);
  if (!j.is_object()) core::fail("{}: it is no JSON object", file);
  const bool newer = j.contains("dtype");
  if (newer) j["dtype"] = dtype;
  if (!newer || j.contains("torch_dtype")) j["torch_dtype"] = dtype;
  return j.dump(kIndent, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace muonp::models
