#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "models/layers/model_keys.h"
#include "models/llama/llama.h"

namespace muonp::models {

namespace {

struct Preset {
  std::string_view name;
  std::int64_t layers, heads, kv_heads, head_size, width, hidden, context, vocabulary;
};

// The sizes of the GaLore paper's Llamas (Zhao et al. 2024), SmolLM2's, and two of our own for a few minutes of training.
constexpr std::array kPresets = {
    Preset{"none", 0, 0, 0, 0, 0, 0, 0, 0},
    Preset{"llama-1m", 4, 4, 2, 32, 128, 352, 256, 0},
    Preset{"llama-10m", 6, 6, 2, 64, 384, 1024, 256, 0},
    Preset{"llama-60m", 8, 8, 8, 64, 512, 1376, 1024, 32000},
    Preset{"llama-130m", 12, 12, 12, 64, 768, 2048, 1024, 32000},
    Preset{"llama-350m", 24, 16, 16, 64, 1024, 2736, 1024, 32000},
    Preset{"llama-1b", 24, 32, 32, 64, 2048, 5461, 1024, 32000},
    Preset{"smollm2-135m", 30, 9, 3, 64, 576, 1536, 8192, 49152},
    Preset{"smollm2-360m", 32, 15, 5, 64, 960, 2560, 8192, 49152},
    Preset{"smollm2-1.7b", 24, 32, 32, 64, 2048, 8192, 8192, 49152},
};
constexpr auto kPresetNames = [] {
  std::array<std::string_view, kPresets.size()> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kPresets[i].name;
  return names;
}();

std::int64_t usual_hidden(std::int64_t width) { return (8 * width / 3 + 63) / 64 * 64; }

void fill_from_others(LlamaConfig& c, const Preset& preset) {
  const auto first_of = [](std::int64_t& value, std::int64_t from_preset, std::int64_t usual) {
    if (value == 0) value = from_preset > 0 ? from_preset : usual;
  };
  first_of(c.kv_heads, preset.kv_heads, c.heads);
  if (c.head_size == 0 && preset.head_size == 0 && c.width % c.heads != 0)
    core::fail("model.width: {} is not a multiple of model.heads, {}; give model.head_size for such heads", c.width,
               c.heads);
  first_of(c.head_size, preset.head_size, c.width / c.heads);
  first_of(c.hidden, preset.hidden, usual_hidden(c.width));
  first_of(c.vocabulary, preset.vocabulary, 0);
  if (c.rope.counts_from_original_context()) first_of(c.rope.original_context, 0, c.context);
}

void check(const LlamaConfig& c) {
  for (const auto& [key, value] : {std::pair{"kv_heads", c.kv_heads}, {"head_size", c.head_size}, {"hidden", c.hidden}})
    if (value < 1) core::fail("model.{}: {} is not at least 1", key, value);
  for (const auto& [key, value] :
       {std::pair{"vocabulary", c.vocabulary}, {"window", c.window}, {"head_chunk_rows", c.head_chunk_rows}})
    if (value < 0) core::fail("model.{}: {} is negative", key, value);
  if (c.heads % c.kv_heads != 0) core::fail("model.kv_heads: {} does not divide model.heads, {}", c.kv_heads, c.heads);
  if (!(c.norm_epsilon > 0 && c.norm_epsilon < 1))
    core::fail("model.norm_epsilon: {} is not between 0 and 1", c.norm_epsilon);
  c.rope.check(c.head_size, c.context);
}

}  // namespace

void LlamaConfig::describe(core::Fields& f, bool windows) {
  f.choice("preset", preset, kPresetNames, "sizes for every one of the next eight keys that is 0");
  f.integer("layers", layers, {.min = 0, .max = kMostLayers}, "transformer blocks; 0: the preset's");
  f.integer("heads", heads, {.min = 0, .max = kMostWidth}, "query heads a block; 0: the preset's");
  f.integer("kv_heads", kv_heads, {.min = 0, .max = kMostWidth},
            "key and value heads a block, each read by heads / kv_heads query heads; 0: the preset's, else heads");
  f.integer("head_size", head_size, {.min = 0, .max = kMostWidth}, "size of a head; 0: the preset's, else width / heads");
  f.integer("width", width, {.min = 0, .max = kMostWidth}, "size of the residual stream; 0: the preset's");
  f.integer("hidden", hidden, {.min = 0, .max = 64 * kMostWidth},
            "hidden width of the MLP; 0: the preset's, else 8/3 of width, up to a multiple of 64");
  f.integer("context", context, {.min = 0, .max = kMostContext}, "longest sequence [tokens]; 0: the preset's");
  f.integer("vocabulary", vocabulary, {.min = 0, .max = kMostVocabulary},
            "number of tokens; 0: the preset's, else the tokenizer's");
  const auto describe_window = [](LlamaConfig& c, core::Fields& to) {
    to.integer("window", c.window, {.min = 0, .max = kMostContext},
               "a token sees itself and the window - 1 tokens before it; 0: all of its document [tokens]");
  };
  if (windows)
    describe_window(*this, f);
  else
    f.others_if("family: mistral, qwen2 or qwen3", [&](core::Fields& inner) {
      LlamaConfig with_defaults;
      describe_window(with_defaults, inner);
    });
  f.real("norm_epsilon", norm_epsilon, {.min = 1e-12, .max = 0.1}, "added to the mean square that a norm divides by");
  f.boolean("tied_head", tied_head, "the head uses the token embedding as its weight");
  f.section(
      "rope", [this](core::Fields& inner) { rope.describe(inner); }, "rotary positions");
  f.integer("head_chunk_rows", head_chunk_rows, {.min = 0, .max = kMostChunkRows},
            "rows of logits held at a time, fewer need less memory and more time; 0: all [tokens]");
  f.choice("logits_dtype", logits_dtype, kLogits, kLogitsMeaning);
  f.choice("recompute", recompute, kRecompute,
           "blocks: keep only the input of each block and compute the rest again in backward, for a third more work");
}

LlamaConfig LlamaConfig::resolved() const {
  require_choice("preset", preset, kPresetNames);
  require_choice("recompute", recompute, kRecompute);
  require_choice("logits_dtype", logits_dtype, kLogits);
  const Preset& from = *std::ranges::find(kPresets, preset, &Preset::name);
  const std::span<const std::string_view> presets(kPresetNames.begin() + 1, kPresetNames.end());
  LlamaConfig c = *this;
  fill_size("layers", c.layers, from.layers, presets);
  fill_size("heads", c.heads, from.heads, presets);
  fill_size("width", c.width, from.width, presets);
  fill_size("context", c.context, from.context, presets);
  fill_from_others(c, from);
  check(c);
  return c;
}

}  // namespace muonp::models
