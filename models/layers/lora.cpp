#include "models/layers/lora.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/pattern.h"

namespace muonp::models {

double LoraConfig::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rank_stabilized ? std::sqrt(r) : r);
}

void LoraConfig::describe(core::Fields& f) {
  f.integer("rank", rank, {.min = 0, .max = 1 << 16},
            "rank of the adapters, which are then all that is trained; 0: none, and every weight is");
  f.text_list(
      "modules", modules,
      "linear layers that have one: the ends of their paths, with * and ?, for example [q_proj, \"layers.0.mlp.*\"]; "
      "[]: q_proj and v_proj, GPT-2's c_attn");
  f.real("alpha", alpha, {.min = 0, .max = 1e6}, "an adapter's product is multiplied by alpha / rank");
  f.boolean("rank_stabilized", rank_stabilized, "multiply by alpha / sqrt(rank) in its place (arXiv 2312.03732)");
  f.real("dropout", dropout, {.min = 0, .max = 0.99}, "probability that an input of an adapter is left out in training");
  f.text("from", from,
         "folder of adapters as PEFT writes them, to start from; its adapter_config.json gives the other keys");
}

void LoraConfig::check() const {
  if (rank < 0) core::fail("model.lora.rank: {} is negative", rank);
  if (!on() && !modules.empty())
    core::fail("model.lora.modules is given, but model.lora.rank is 0: adapters have a rank of at least 1");
  if (!(alpha >= 0)) core::fail("model.lora.alpha: {} is not at least 0", alpha);
  if (!(dropout >= 0 && dropout < 1)) core::fail("model.lora.dropout: {} is not a probability below 1", dropout);
  for (const std::string& pattern : modules)
    if (pattern.empty()) core::fail("model.lora.modules has an empty pattern; * is every linear layer");
}

bool selects_module(const std::string& pattern, const std::string& path) {
  return core::matches_pattern(pattern, path) || core::matches_pattern("*." + pattern, path);
}

}  // namespace muonp::models
