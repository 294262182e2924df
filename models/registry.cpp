#include "models/registry.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/device/attention.h"

namespace muonp::models {

namespace {

constexpr std::array<std::string_view, 6> kFamilies = {"gpt", "gpt2", "llama", "mistral", "qwen2", "qwen3"};

void describe_family(ModelConfig& c, core::Fields& f) {
  c.gpt.gpt2 = c.family == "gpt2";
  if (c.is_llama())
    c.llama.describe(f, /*windows=*/c.family != "llama");
  else
    c.gpt.describe(f);
}

// The keys of another family, as `condition` says.
void describe_other(core::Fields& f, std::string_view condition, std::string_view family) {
  f.others_if(std::string(condition), [family](core::Fields& inner) {
    ModelConfig with_defaults;
    with_defaults.family = family;
    describe_family(with_defaults, inner);
  });
}

core::NamedValues values_of(ModelConfig c) {
  return core::config_values([&](core::Fields& f) { c.describe(f); });
}

const core::NamedValue* find(const core::NamedValues& values, std::string_view name) {
  const auto found = std::ranges::find(values, name, &core::NamedValue::name);
  return found == values.end() ? nullptr : &*found;
}

// Keys of how a model is run, not of what it is.
bool may_differ(const std::string& key, const ModelConfig& folder) {
  if (key == "from" || key == "head_chunk_rows" || key == "logits_dtype" || key == "recompute" || key.starts_with("lora.") ||
      key.starts_with("qk_clip."))
    return true;
  return folder.is_llama() ? key == "context" : key == "dropout";
}

void require_no_contradiction(const ModelConfig& given, const ModelConfig& folder) {
  ModelConfig untouched;
  untouched.family = given.family;
  const core::NamedValues all = values_of(given), defaults = values_of(untouched), read = values_of(folder);
  for (const core::NamedValue& value : all) {
    const core::NamedValue* usual = find(defaults, value.name);
    const bool set = value.name == "family" ? value.value != "gpt" : usual == nullptr || usual->value != value.value;
    if (!set || may_differ(value.name, folder)) continue;
    const core::NamedValue* there = find(read, value.name);
    if (there == nullptr)
      core::fail("model.{}: {} is given, but {} is of the family {}, which has no such key", value.name, value.value,
                 given.from, folder.family);
    if (there->value != value.value)
      core::fail("model.{}: {} here, {} in {}; leave it out, the folder says it", value.name, value.value, there->value,
                 given.from);
  }
}

template <class Given>
void take_run_keys(const Given& given, ModelConfig& to) {
  const auto take = [&](auto& config) {
    config.head_chunk_rows = given.head_chunk_rows;
    config.logits_dtype = given.logits_dtype;
    config.recompute = given.recompute;
  };
  if (to.is_llama())
    take(to.llama);
  else
    take(to.gpt);
}

// A shorter one, or with dynamic scaling one that it stretches to. Scalings keep the folder's original_context.
void choose_context(LlamaConfig& c, std::int64_t context, const std::string& folder) {
  const double stretch = c.rope.kind == "dynamic" ? c.rope.factor : 1;
  constexpr double kLongest = 0x1p62;  // a folder's factor can be any number
  const auto longest = static_cast<std::int64_t>(std::min(stretch * static_cast<double>(c.context), kLongest));
  if (context > longest) core::fail("model.context: {} is longer than the {} of {}", context, longest, folder);
  if (context > 0) c.context = context;
}

// Those of PEFT.
std::vector<std::string> usual_modules(std::string_view family) {
  if (family == "gpt") return {"attention.qkv"};
  if (family == "gpt2") return {"c_attn"};
  return {"q_proj", "v_proj"};
}

// What scaling rows of projections cannot do.
void check_clip(const ModelConfig& c) {
  c.qk_clip.check();
  if (!c.qk_clip.enabled) return;
  if (c.lora.on())
    core::fail(
        "model.qk_clip.enabled: the clip scales the projections to queries and keys, and model.lora freezes them; leave out "
        "one of the two");
  if (c.family == "qwen3")
    core::fail(
        "model.qk_clip.enabled: qwen3 normalises each head's queries and keys, so that scaling their projections changes no "
        "logit, and the gains of the norms, which all heads share, bound them; leave it out");
}

}  // namespace

void ModelConfig::describe(core::Fields& f) {
  f.text("from", from,
         "Hugging Face folder to start from: its config.json gives the family and sizes, its safetensors the weights; \"\": "
         "built anew");
  f.choice("family", family, kFamilies,
           "architecture, whose keys follow; llama to qwen3 and gpt2 have Hugging Face's names");
  f.section(
      "lora", [this](core::Fields& inner) { lora.describe(inner); },
      "low-rank adapters, trained in the place of the weights");
  f.section(
      "qk_clip", [this](core::Fields& inner) { qk_clip.describe(inner); },
      "MuonClip's bound on attention logits (docs/optimizers.md)");
  describe_family(*this, f);
  if (is_llama()) describe_other(f, "family: gpt or gpt2", "gpt2");
  if (family != "gpt") describe_other(f, "family: gpt", "gpt");
  if (!is_llama()) describe_other(f, "family: llama, mistral, qwen2 or qwen3", "mistral");
}

ModelConfig ModelConfig::resolved() const {
  ModelConfig c = *this;
  if (std::ranges::find(kFamilies, family) == kFamilies.end())
    core::fail("model.family: '{}' is not known; valid are {}", family, fmt::join(kFamilies, ", "));
  c.gpt.gpt2 = family == "gpt2";
  c.lora.check();
  check_clip(*this);
  if (c.lora.on() && c.lora.modules.empty()) c.lora.modules = usual_modules(family);
  if (!is_llama()) {
    c.gpt = c.gpt.resolved();
    return c;
  }
  c.llama.qkv_bias = family == "qwen2";
  c.llama.qk_norm = family == "qwen3";
  if (family == "llama" && c.llama.window != 0)
    core::fail("model.window: {} is given, but the family llama has none", c.llama.window);
  c.llama = c.llama.resolved();
  return c;
}

ModelConfig ModelConfig::with_folder(const ModelConfig& folder) const {
  ModelConfig c = folder.resolved();
  require_no_contradiction(*this, c);
  c.from = from;
  c.lora = lora;
  c.qk_clip = qk_clip;
  if (is_llama())
    take_run_keys(llama, c);
  else
    take_run_keys(gpt, c);
  if (c.is_llama())
    choose_context(c.llama, context(), from);
  else
    c.gpt.dropout = gpt.dropout;
  return c.resolved();
}

std::unique_ptr<LanguageModel> make_model(const ModelConfig& config) {
  const ModelConfig c = config.resolved();
  return c.is_llama() ? make_llama(c.llama, c.lora, c.qk_clip) : make_gpt(c.gpt, c.lora, c.qk_clip);
}

std::unique_ptr<LanguageModel> make_model(const ModelConfig& config, core::DeviceKind device) {
  if (const std::string why = core::attention_refusal(config.resolved().heads(), device); !why.empty())
    core::fail("{}", why);
  return make_model(config);
}

}  // namespace muonp::models
