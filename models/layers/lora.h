// LoRA (Hu et al., arXiv 2106.09685): the model's own weights are frozen, and beside chosen linear layers the product of two
// thin matrices is trained: y = x·Wᵀ + scale·(dropout(x)·Aᵀ)·Bᵀ.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/config/config.h"

namespace muonp::models {

struct LoraConfig {
  std::int64_t rank = 0;             // of A [rank, inputs] and B [outputs, rank]; 0: no adapters, everything is trained
  std::vector<std::string> modules;  // patterns of linear layers, by the end of their path: "q_proj"; empty: the family's
  double alpha = 16;
  bool rank_stabilized = false;  // scale alpha / sqrt(rank) (arXiv 2312.03732) in the place of alpha / rank
  double dropout = 0;            // of what adapters read, while training
  std::string from;              // PEFT's folder, whose adapters are the initial ones; empty: A random, B zero

  bool on() const { return rank > 0; }
  double scale() const;
  void describe(core::Fields& fields);
  // Error names the key ("model.lora.rank").
  void check() const;
};

// Whether a pattern (core/base/pattern.h) is a linear layer's path, or the end of it behind a dot.
bool selects_module(const std::string& pattern, const std::string& path);

// The adapters' factors are called "<path>.lora_A.weight" and "<path>.lora_B.weight".
inline constexpr const char* kLoraA = ".lora_A.weight";
inline constexpr const char* kLoraB = ".lora_B.weight";

}  // namespace muonp::models
