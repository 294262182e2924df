// Every kind of model by one configuration: the section `model`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/config/config.h"
#include "core/device/attention_shape.h"
#include "core/device/device.h"
#include "models/gpt/gpt.h"
#include "models/layers/lora.h"
#include "models/layers/qk_clip.h"
#include "models/llama/llama.h"
#include "models/model.h"

namespace muonp::models {

struct ModelConfig {
  std::string from;            // a Hugging Face folder, whose config.json gives the family and its values; empty: built anew
  std::string family = "gpt";  // gpt | gpt2 | llama | mistral | qwen2 | qwen3
  GptConfig gpt;               // of gpt and gpt2
  LlamaConfig llama;           // of the others
  LoraConfig lora;
  QkClipConfig qk_clip;

  // `from`, `family`, `lora`, `qk_clip`, and the keys of that family. Keys of other families are told so.
  void describe(core::Fields& fields);

  // With what the family says (biases, norms), presets filled in, checked. Not of a configuration whose folder is still to
  // be read.
  ModelConfig resolved() const;
  // This configuration with what `folder` (read from its config.json) says. Of the keys given here only those of how the
  // model is run may differ: dropout, head_chunk_rows, logits_dtype, recompute, qk_clip, a shorter context (or, with dynamic
  // scaling, up to factor times as long). Error names any other with both values.
  ModelConfig with_folder(const ModelConfig& folder) const;

  bool is_llama() const { return family != "gpt" && family != "gpt2"; }
  core::AttentionHeads heads() const {
    return is_llama() ? core::AttentionHeads{llama.heads, llama.kv_heads, llama.head_size, llama.window}
                      : core::AttentionHeads{gpt.heads, gpt.heads, gpt.head_size()};
  }
  const std::string& logits_dtype() const { return is_llama() ? llama.logits_dtype : gpt.logits_dtype; }
  std::int64_t layers() const { return is_llama() ? llama.layers : gpt.layers; }
  std::int64_t width() const { return is_llama() ? llama.width : gpt.width; }
  std::int64_t context() const { return is_llama() ? llama.context : gpt.context; }
  std::int64_t vocabulary() const { return is_llama() ? llama.vocabulary : gpt.vocabulary; }
  void set_vocabulary(std::int64_t tokens) { (is_llama() ? llama.vocabulary : gpt.vocabulary) = tokens; }
};

// Resolves the configuration; Error if the vocabulary is then not known.
std::unique_ptr<LanguageModel> make_model(const ModelConfig& config);
// The same, of a model that is to be computed, or planned, on a device of this kind: Error also for what it cannot do there.
std::unique_ptr<LanguageModel> make_model(const ModelConfig& config, core::DeviceKind device);

}  // namespace muonp::models
