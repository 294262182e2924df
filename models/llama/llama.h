// Llama (Touvron et al. 2023) and its kin Mistral, Qwen2 and Qwen3: decoder-only transformers with RMS norms, rotary
// positions, grouped-query attention and SwiGLU. Parameters have Hugging Face's names; docs/models.md lists them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/config/config.h"
#include "models/layers/decoder_cost.h"
#include "models/layers/lora.h"
#include "models/layers/qk_clip.h"
#include "models/layers/rope.h"
#include "models/model.h"

namespace muonp::models {

struct LlamaConfig {
  // 0 stands for the preset's value, then for what follows from others: kv_heads = heads, head_size = width / heads, hidden
  // = 8/3 of the width, up to a multiple of 64. The vocabulary of a preset without one is the tokenizer's, set by the
  // trainer.
  std::string preset = "none";
  std::int64_t layers = 0, heads = 0, kv_heads = 0, head_size = 0, width = 0, hidden = 0, context = 0, vocabulary = 0;
  std::int64_t window = 0;  // a token sees itself and the window - 1 tokens before it; 0: all of its document
  double norm_epsilon = 1e-5;
  bool qkv_bias = false;  // biases of the projections to queries, keys and values (Qwen2)
  bool qk_norm = false;   // RMS norms of each head's queries and keys (Qwen3)
  bool tied_head = true;  // the head's weight is the token embedding
  RopeConfig rope;
  std::int64_t head_chunk_rows = 0;      // rows of logits held at a time; 0: all of the micro-batch
  std::string logits_dtype = "float32";  // float32 | bfloat16, while training
  std::string recompute = "none";        // none | blocks: activations of a block are computed again in the backward pass

  // qkv_bias and qk_norm are no keys: the family says them. `windows`: whether the family has windows.
  void describe(core::Fields& fields, bool windows);

  // Fills what is 0, then checks: Error names the key ("model.heads") and what is valid. A vocabulary that is still 0
  // passes.
  LlamaConfig resolved() const;
};

// Resolves the configuration; Error if the vocabulary is then not known.
std::unique_ptr<LanguageModel> make_llama(const LlamaConfig& config, const LoraConfig& lora = {},
                                          const QkClipConfig& clip = {});

// Cost model of a resolved configuration with a vocabulary, as models/gpt/gpt.h has it: attention is counted as the whole
// square, of which the pairs of a query and a later key, or one before its window, are skipped.
double llama_step_flops(const LlamaConfig& config, std::int64_t batch, std::int64_t time);
double llama_skipped_flops(const LlamaConfig& config, std::int64_t batch, std::int64_t time);
double llama_recomputed_flops(const LlamaConfig& config, std::int64_t batch, std::int64_t time);
// `adapters`: bytes that one takes for itself in a backward pass. `maxima`: the largest logits are wanted.
DecoderPeaks llama_peaks(const LlamaConfig& config, const PassShape& shape, std::int64_t adapters, bool maxima);

}  // namespace muonp::models
