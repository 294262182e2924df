// Small models of the Llama family for tests.
#pragma once

#include "models/registry.h"
#include "tests/models/gpt/tiny_gpt.h"

namespace muonp::models::testing {

inline LlamaConfig tiny_llama() {
  LlamaConfig c;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.width = 16;
  c.hidden = 24;
  c.context = 12;
  c.vocabulary = 13;
  return c;
}

inline ModelConfig config_of(const std::string& family, const LlamaConfig& llama = tiny_llama()) {
  ModelConfig c;
  c.family = family;
  c.llama = llama;
  c.gpt = tiny_config();
  c.gpt.context = llama.context;
  return c;
}

// Every family, and what changes how the Llama's computes.
inline std::vector<ModelConfig> all_families() {
  std::vector<ModelConfig> all;
  for (const char* family : {"gpt", "gpt2", "llama", "mistral", "qwen2", "qwen3"}) all.push_back(config_of(family));
  all[0].gpt.positions = "rotary";
  all[3].llama.window = 5;
  all[4].llama.tied_head = false;
  all[5].llama.head_size = 6;
  return all;
}

}  // namespace muonp::models::testing
