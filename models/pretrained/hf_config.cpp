#include "models/pretrained/hf_config.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"
#include "models/pretrained/hf_keys.h"
#include "models/pretrained/hf_rope.h"

namespace muonp::models {

namespace {

using nlohmann::json;

constexpr std::int64_t kMistralWindow = 4096;
constexpr double kGptEpsilon = 1e-5;  // of layer norms

// What does not change what the model computes from its tokens: bookkeeping, generation's settings, ids of special tokens,
// how weights start and are dropped in training, kernels and caches.
constexpr std::string_view kIgnored[] = {"_*",
                                         "architectures",
                                         "transformers*",
                                         "torch_dtype",
                                         "dtype",
                                         "name_or_path",
                                         "bos_token_id",
                                         "eos_token_id",
                                         "pad_token_id",
                                         "sep_token_id",
                                         "unk_token_id",
                                         "mask_token_id",
                                         "decoder_start_token_id",
                                         "tokenizer_class",
                                         "tokenizer_name",
                                         "use_cache",
                                         "cache_implementation",
                                         "initializer_range",
                                         "attention_dropout",
                                         "hidden_dropout",
                                         "embd_pdrop",
                                         "resid_pdrop",
                                         "attn_pdrop",
                                         "summary_*",
                                         "output_*",
                                         "return_dict",
                                         "torchscript",
                                         "use_bfloat16",
                                         "chunk_size_feed_forward",
                                         "is_decoder",
                                         "id2label",
                                         "label2id",
                                         "num_labels",
                                         "finetuning_task",
                                         "task_specific_params",
                                         "problem_type",
                                         "gradient_checkpointing",
                                         "generation_config",
                                         "max_length",
                                         "min_length",
                                         "do_sample",
                                         "early_stopping",
                                         "num_beams",
                                         "num_beam_groups",
                                         "diversity_penalty",
                                         "temperature",
                                         "top_k",
                                         "top_p",
                                         "typical_p",
                                         "repetition_penalty",
                                         "length_penalty",
                                         "no_repeat_ngram_size",
                                         "encoder_no_repeat_ngram_size",
                                         "num_return_sequences",
                                         "bad_words_ids",
                                         "remove_invalid_values",
                                         "n_ctx",
                                         "is_llama_config",
                                         "unsloth_*",
                                         "auto_map",
                                         "reorder_and_upcast_attn",
                                         "base_model_tp_plan",
                                         "base_model_pp_plan"};

struct Kin {
  std::string_view name;
  bool qkv_bias, qk_norm;
  std::int64_t head_size;  // where head_dim is missing; 0: width / heads
  bool needs_kv_heads;     // where num_key_value_heads is missing, its default is no number of this model's
};
constexpr Kin kKin[] = {{"llama", false, false, 0, false},
                        {"mistral", false, false, 0, true},
                        {"qwen2", true, false, 0, true},
                        {"qwen3", false, true, 128, true}};

// Windows of all layers alike: 0 for none.
std::int64_t window_of(const HfKeys& keys, std::string_view family, std::int64_t layers) {
  // A Mistral without the key has the default of transformers.
  const bool usual = family == "mistral" && !keys.is_null("sliding_window");
  const std::int64_t window = keys.count_or("sliding_window", usual ? kMistralWindow : 0);
  const bool used = window > 0 && keys.flag_or("use_sliding_window", family == "mistral");
  const std::int64_t first = keys.has("max_window_layers") && keys.raw("max_window_layers") == 0
                                 ? 0
                                 : keys.count_or("max_window_layers", family == "mistral" ? 0 : 28);
  const std::vector<std::string> types = keys.texts("layer_types");
  for (const std::string& type : types)
    if (type != types[0] || (type != "full_attention" && type != "sliding_attention"))
      keys.refuse("layer_types", "layers that are all full_attention or all sliding_attention alone are supported");
  if (!types.empty() && types[0] == "sliding_attention" && window == 0)
    keys.refuse("sliding_window", "layer_types has sliding_attention, which needs it");
  if (!types.empty()) return types[0] == "sliding_attention" ? window : 0;
  if (!used || first >= layers) return 0;
  if (first > 0) keys.refuse("max_window_layers", "a sliding window in all layers or in none alone is supported");
  return window;
}

LlamaConfig read_llama(const HfKeys& keys, const Kin& kin) {
  LlamaConfig c;
  c.layers = keys.count("num_hidden_layers");
  c.heads = keys.count("num_attention_heads");
  if (kin.needs_kv_heads && !keys.is_null("num_key_value_heads")) (void)keys.count("num_key_value_heads");
  c.kv_heads = keys.count_or("num_key_value_heads", c.heads);
  c.width = keys.count("hidden_size");
  if (kin.head_size == 0 && !keys.has("head_dim") && c.width % c.heads != 0)
    keys.refuse("num_attention_heads", fmt::format("without head_dim it has to divide hidden_size, {}", c.width));
  c.head_size = keys.count_or("head_dim", kin.head_size > 0 ? kin.head_size : c.width / c.heads);
  c.hidden = keys.count("intermediate_size");
  c.context = keys.count("max_position_embeddings");
  c.vocabulary = keys.count("vocab_size");
  c.norm_epsilon = keys.real_or("rms_norm_eps", 1e-6);
  c.qkv_bias = kin.qkv_bias;
  c.qk_norm = kin.qk_norm;
  c.tied_head = keys.flag_or("tie_word_embeddings", false);
  c.window = kin.name == "llama" ? 0 : window_of(keys, kin.name, c.layers);
  c.rope = read_hf_rope(keys, c.context);
  constexpr std::array<std::string_view, 2> kActivations = {"silu", "swish"};
  keys.require_text("hidden_act", kActivations);
  if (!kin.qkv_bias) keys.require_flag("attention_bias", false);
  keys.require_flag("mlp_bias", false);
  keys.require_real("pretraining_tp", 1);
  return c;
}

GptConfig read_gpt2(const HfKeys& keys) {
  GptConfig c;
  c.layers = keys.count("n_layer");
  c.heads = keys.count("n_head");
  c.width = keys.count("n_embd");
  c.context = keys.count("n_positions");
  c.vocabulary = keys.count("vocab_size");
  c.mlp_ratio = static_cast<double>(keys.count_or("n_inner", 4 * c.width)) / static_cast<double>(c.width);
  c.tied_head = keys.flag_or("tie_word_embeddings", true);
  constexpr std::array<std::string_view, 2> kActivations = {"gelu_new", "gelu_pytorch_tanh"};  // two names of one function
  keys.require_text("activation_function", kActivations);
  keys.require_real("layer_norm_epsilon", kGptEpsilon);
  keys.require_flag("scale_attn_weights", true);
  keys.require_flag("scale_attn_by_inverse_layer_idx", false);
  keys.require_flag("add_cross_attention", false);
  return c;
}

std::string families() {
  std::string names = "gpt2";
  for (const Kin& kin : kKin) names += ", " + std::string(kin.name);
  return names;
}

}  // namespace

ModelConfig read_hf_config(const std::string& folder) {
  const std::string file = folder + "/" + kConfigFile;
  if (!core::is_directory(folder)) core::fail("model.from: {}: no such folder", folder);
  json object;
  try {
    object = core::parse_strict_json(core::read_file(file));
  } catch (const core::Error& error) {
    core::fail("{}: {}", file, error.what());
  }
  const HfKeys keys(std::move(object), file);
  ModelConfig model;
  model.from = folder;
  model.family = keys.text_or("model_type", "");
  const auto* kin = std::ranges::find(kKin, model.family, &Kin::name);
  if (kin != std::end(kKin))
    model.llama = read_llama(keys, *kin);
  else if (model.family == "gpt2")
    model.gpt = read_gpt2(keys);
  else
    keys.refuse("model_type", "supported are " + families());
  keys.require_no_others(kIgnored);
  return model;
}

}  // namespace muonp::models
