// GPT: a decoder-only transformer with normalisation before each sub-layer (Radford et al. 2019, "GPT-2"),
// and its usual variants. docs/models.md lists the presets and parameter names.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/config/config.h"
#include "models/layers/decoder_cost.h"
#include "models/layers/lora.h"
#include "models/layers/qk_clip.h"
#include "models/model.h"

namespace muonp::models {

struct GptConfig {
  // 0 stands for the preset's value. The vocabulary of a preset without one is the tokenizer's, set by the
  // trainer.
  std::string preset = "none";
  std::int64_t layers = 0, heads = 0, width = 0, context = 0, vocabulary = 0;
  std::string positions = "learned";     // learned | rotary
  std::string activation = "gelu";       // gelu | relu2 | swiglu
  std::string norm = "layer_norm";       // layer_norm | rms_norm
  double mlp_ratio = 4;                  // hidden width of the MLP / width; a swiglu has two projections of that width
  bool bias = true;                      // in linear layers and layer norms
  bool tied_head = true;                 // the head's weight is the token embedding
  double dropout = 0;                    // after the embedding and each sub-layer; only while training
  std::int64_t head_chunk_rows = 0;      // rows of logits held at a time; 0: all of the micro-batch
  std::string logits_dtype = "float32";  // float32 | bfloat16, while training
  std::string recompute = "none";        // none | blocks: activations of a block are computed again in the backward pass

  // OpenAI's GPT-2 by Hugging Face's names: learned positions, gelu, layer norms and biases, which are then no keys.
  bool gpt2 = false;

  void describe(core::Fields& fields);

  // Fills what is 0 from the preset, then checks: Error names the key ("model.heads") and what is valid. A
  // vocabulary that is still 0 passes.
  GptConfig resolved() const;

  std::int64_t head_size() const { return width / heads; }
  std::int64_t hidden() const;  // mlp_ratio·width, to the nearest integer
};

// Resolves the configuration; Error if the vocabulary is then not known.
std::unique_ptr<LanguageModel> make_gpt(const GptConfig& config, const LoraConfig& lora = {}, const QkClipConfig& clip = {});

// Cost model of a resolved configuration with a vocabulary.
//
// Floating-point operations of one forward and backward pass over batch·time tokens, by the usual convention:
// 6 a token and weight of a matrix product (the head's, tied or not, included; embedding look-ups not) and
// 12·layers· width·time a token for attention, which counts the whole square although causal attention skips
// half of it.
double gpt_step_flops(const GptConfig& config, std::int64_t batch, std::int64_t time);
// Of these, the pairs of a query and a later key.
double gpt_skipped_flops(const GptConfig& config, std::int64_t batch, std::int64_t time);
// Of one forward pass of all blocks with recompute: blocks, else 0.
double gpt_recomputed_flops(const GptConfig& config, std::int64_t batch, std::int64_t time);
// Highest number of bytes of activations, and of the angles of rotary positions, at one time during a recorded forward pass
// and its backward pass; on the CPU for the calling thread's number of OpenMP threads.
// `adapters`: bytes that one takes for itself in a backward pass. `maxima`: the largest logits are wanted.
DecoderPeaks gpt_peaks(const GptConfig& config, const PassShape& shape, std::int64_t adapters, bool maxima);

}  // namespace muonp::models
