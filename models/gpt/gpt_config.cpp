#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "models/gpt/gpt.h"
#include "models/layers/model_keys.h"

namespace muonp::models {

namespace {

struct Preset {
  std::string_view name;
  std::int64_t layers, heads, width, context, vocabulary;
};

constexpr std::array kPresets = {
    Preset{"none", 0, 0, 0, 0, 0},
    Preset{"gpt-1m", 4, 4, 128, 256, 0},
    Preset{"gpt-10m", 6, 6, 384, 256, 0},
    Preset{"gpt-25m", 8, 8, 512, 512, 0},
    Preset{"gpt2-124m", 12, 12, 768, 1024, 50257},
    Preset{"gpt2-355m", 24, 16, 1024, 1024, 50257},
    Preset{"gpt2-774m", 36, 20, 1280, 1024, 50257},
    Preset{"gpt2-1558m", 48, 25, 1600, 1024, 50257},
};
constexpr auto kPresetNames = [] {
  std::array<std::string_view, kPresets.size()> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kPresets[i].name;
  return names;
}();
constexpr double kMostRatio = 64;

constexpr std::array<std::string_view, 2> kPositions = {"learned", "rotary"};
constexpr std::array<std::string_view, 3> kActivations = {"gelu", "relu2", "swiglu"};
constexpr std::array<std::string_view, 2> kNorms = {"layer_norm", "rms_norm"};

void check(const GptConfig& c) {
  if (c.width % c.heads != 0) core::fail("model.width: {} is not a multiple of model.heads, {}", c.width, c.heads);
  if (c.positions == "rotary" && c.head_size() % 2 != 0)
    core::fail("model.positions: rotary needs an even head size, and model.width {} / model.heads {} is {}", c.width,
               c.heads, c.head_size());
  if (!(c.mlp_ratio > 0) || c.hidden() < 1)
    core::fail("model.mlp_ratio: {} leaves no hidden unit at width {}", c.mlp_ratio, c.width);
  if (!(c.dropout >= 0 && c.dropout < 1)) core::fail("model.dropout: {} is not in [0, 1)", c.dropout);
  if (c.vocabulary < 0 || c.head_chunk_rows < 0)
    core::fail("model.vocabulary and model.head_chunk_rows must not be negative");
}

void describe_sizes(GptConfig& c, core::Fields& f) {
  f.choice("preset", c.preset, kPresetNames, "sizes for every one of the next five keys that is 0");
  f.integer("layers", c.layers, {.min = 0, .max = kMostLayers}, "transformer blocks; 0: the preset's");
  f.integer("heads", c.heads, {.min = 0, .max = kMostWidth}, "attention heads a block; divides width; 0: the preset's");
  f.integer("width", c.width, {.min = 0, .max = kMostWidth}, "size of the residual stream; 0: the preset's");
  f.integer("context", c.context, {.min = 0, .max = kMostContext}, "longest sequence [tokens]; 0: the preset's");
  f.integer("vocabulary", c.vocabulary, {.min = 0, .max = kMostVocabulary},
            "number of tokens; 0: the preset's, else the tokenizer's");
}

void describe_rest(GptConfig& c, core::Fields& f) {
  f.boolean("tied_head", c.tied_head, "the head uses the token embedding as its weight");
  f.real("dropout", c.dropout, {.min = 0, .max = 0.999}, "probability of dropping an element while training");
  f.integer("head_chunk_rows", c.head_chunk_rows, {.min = 0, .max = kMostChunkRows},
            "rows of logits held at a time, fewer need less memory and more time; 0: all [tokens]");
  f.choice("logits_dtype", c.logits_dtype, kLogits, kLogitsMeaning);
  f.choice("recompute", c.recompute, kRecompute,
           "blocks: keep only the input of each block and compute the rest again in backward, for a third more work");
}

}  // namespace

std::int64_t GptConfig::hidden() const { return std::llround(mlp_ratio * static_cast<double>(width)); }

void GptConfig::describe(core::Fields& f) {
  describe_sizes(*this, f);
  if (!gpt2) {
    f.choice("positions", positions, kPositions, "how the model knows where a token stands");
    f.choice("activation", activation, kActivations, "non-linearity of the MLP");
    f.choice("norm", norm, kNorms, "normalisation before each sub-layer");
  }
  f.real("mlp_ratio", mlp_ratio, {.min = 0, .max = kMostRatio}, "hidden width of the MLP as a multiple of width");
  if (!gpt2) f.boolean("bias", bias, "biases in linear layers and layer norms");
  describe_rest(*this, f);
}

GptConfig GptConfig::resolved() const {
  require_choice("preset", preset, kPresetNames);
  require_choice("positions", positions, kPositions);
  require_choice("activation", activation, kActivations);
  require_choice("norm", norm, kNorms);
  require_choice("recompute", recompute, kRecompute);
  require_choice("logits_dtype", logits_dtype, kLogits);
  const Preset& from = *std::find_if(kPresets.begin(), kPresets.end(), [&](const Preset& p) { return p.name == preset; });
  const std::span<const std::string_view> presets(kPresetNames.begin() + 1, kPresetNames.end());
  GptConfig c = *this;
  if (gpt2) {
    c.positions = "learned";
    c.activation = "gelu";
    c.norm = "layer_norm";
    c.bias = true;
  }
  fill_size("layers", c.layers, from.layers, presets);
  fill_size("heads", c.heads, from.heads, presets);
  fill_size("width", c.width, from.width, presets);
  fill_size("context", c.context, from.context, presets);
  if (c.vocabulary == 0) c.vocabulary = from.vocabulary;
  check(c);
  return c;
}

}  // namespace muonp::models
