#include "models/pretrained/hf_rope.h"

#include <array>

#include "core/base/error.h"

namespace muonp::models {

namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 5> kKinds = {"default", "linear", "dynamic", "llama3", "yarn"};

// Transformers 5 may give one object for each type of layer; they have to be alike.
HfKeys parameters_of(const HfKeys& keys, const std::string& key) {
  const json& value = keys.raw(key);
  if (!value.is_object() || value.empty() || !value.begin()->is_object()) return keys.object(key);
  for (const auto& [layers, parameters] : value.items())
    if (parameters != *value.begin()) keys.refuse(key, "one set of values for all layers alone is supported");
  return {*value.begin(), keys.file(), key + "." + value.begin().key() + "."};
}

void read_yarn(const HfKeys& keys, RopeConfig& rope) {
  rope.beta_fast = keys.real_or("beta_fast", rope.beta_fast);
  rope.beta_slow = keys.real_or("beta_slow", rope.beta_slow);
  rope.attention_factor = keys.real_or("attention_factor", 0);
  rope.mscale = keys.real_or("mscale", 0);
  rope.mscale_all_dim = keys.real_or("mscale_all_dim", 0);
  rope.truncate = keys.flag_or("truncate", true);
}

void read_llama3(const HfKeys& keys, RopeConfig& rope) {
  for (const char* key : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"})
    if (!keys.has(key)) keys.refuse(key, "the rope type llama3 needs it");
  rope.low_frequency_factor = keys.real_or("low_freq_factor", 1);
  rope.high_frequency_factor = keys.real_or("high_freq_factor", 4);
}

void read_kind(const HfKeys& keys, std::int64_t context, RopeConfig& rope) {
  const std::string key = keys.has("rope_type") || !keys.has("type") ? "rope_type" : "type";
  keys.require_text(key, kKinds);
  rope.kind = keys.text_or(key, "default");
  (void)keys.has("type");  // beside rope_type it says the same
  rope.theta = keys.real_or("rope_theta", rope.theta);
  keys.require_real("partial_rotary_factor", 1);
  if (rope.kind == "default") return;
  if (!keys.has("factor")) keys.refuse("factor", "the rope type " + rope.kind + " needs it");
  rope.factor = keys.real_or("factor", 1);
  if (rope.kind == "linear") return;
  if (rope.kind == "llama3") read_llama3(keys, rope);
  if (rope.kind == "yarn") read_yarn(keys, rope);
  // dynamic stretches from the model's own context, whatever else stands there
  rope.original_context = rope.kind == "dynamic" ? context : keys.count_or("original_max_position_embeddings", context);
}

}  // namespace

RopeConfig read_hf_rope(const HfKeys& keys, std::int64_t context) {
  RopeConfig rope;
  rope.theta = keys.real_or("rope_theta", rope.theta);
  keys.require_real("partial_rotary_factor", 1);
  keys.require_flag("rope_interleaved", false);
  const bool older = keys.has("rope_scaling"), newer = keys.has("rope_parameters");
  if (older && newer && keys.raw("rope_scaling") != keys.raw("rope_parameters"))
    keys.refuse("rope_scaling", "rope_parameters says something else; one of the two may be there");
  if (!older && !newer) return rope;
  const HfKeys parameters = parameters_of(keys, newer ? "rope_parameters" : "rope_scaling");
  read_kind(parameters, context, rope);
  constexpr std::array<std::string_view, 2> kUnused = {"original_max_position_embeddings", "factor"};
  parameters.require_no_others(kUnused);
  return rope;
}

void write_hf_rope(const RopeConfig& rope, std::int64_t context, nlohmann::ordered_json& to) {
  to["rope_theta"] = rope.theta;
  to["rope_scaling"] = nullptr;
  if (rope.kind == "default") return;
  nlohmann::ordered_json scaling = {{"rope_type", rope.kind}, {"factor", rope.factor}};
  const std::int64_t original = rope.original_context > 0 ? rope.original_context : context;
  if (rope.kind == "dynamic" && original != context)
    core::fail("model.rope.original_context: {} with the rope kind dynamic; in transformers it is the model's context, {}",
               original, context);
  if (rope.kind == "llama3") {
    scaling["low_freq_factor"] = rope.low_frequency_factor;
    scaling["high_freq_factor"] = rope.high_frequency_factor;
  }
  if (rope.kind == "llama3" || rope.kind == "yarn") scaling["original_max_position_embeddings"] = original;
  if (rope.kind == "yarn") {
    scaling["beta_fast"] = rope.beta_fast;
    scaling["beta_slow"] = rope.beta_slow;
    scaling["truncate"] = rope.truncate;
    if (rope.attention_factor > 0) scaling["attention_factor"] = rope.attention_factor;
    if (rope.mscale > 0) scaling["mscale"] = rope.mscale;
    if (rope.mscale_all_dim > 0) scaling["mscale_all_dim"] = rope.mscale_all_dim;
  }
  to["rope_scaling"] = scaling;
}

}  // namespace muonp::models
