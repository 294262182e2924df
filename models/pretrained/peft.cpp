#include "models/pretrained/peft.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"
#include "models/pretrained/hf_keys.h"
#include "models/pretrained/hf_names.h"
#include "models/pretrained/pretrained_weights.h"

namespace muonp::models {

namespace {

using nlohmann::ordered_json;

constexpr const char* kPrefix = "base_model.model.";

bool is_factor(const core::Parameter& p) { return p.partner != nullptr; }
std::string_view ending_of(const core::Parameter& factor) {
  return factor.kind == core::ParameterKind::lora_a ? kLoraA : kLoraB;
}

// The path of the linear layer beside the factor, in the ecosystem's names.
std::string module_of(std::string_view family, const core::Parameter& factor) {
  constexpr std::string_view kWeight = ".weight";
  const std::string path = factor.name.substr(0, factor.name.size() - ending_of(factor).size());
  const std::string weight = hf_name(family, path + std::string(kWeight));
  return weight.substr(0, weight.size() - kWeight.size());
}

std::string last_of(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// As PEFT selects: by the last component where all layers that have it are chosen, else by the path.
std::set<std::string> target_modules(std::string_view family, const core::ParameterList& parameters) {
  std::set<std::string> chosen, some;  // paths; last components of layers that are not
  for (const core::Parameter* p : parameters)
    if (p->kind == core::ParameterKind::lora_a) chosen.insert(module_of(family, *p));
  for (const core::Parameter* p : parameters) {
    if (p->kind != core::ParameterKind::matrix) continue;
    const std::string weight = hf_name(family, p->name), path = weight.substr(0, weight.rfind('.'));
    if (!chosen.contains(path)) some.insert(last_of(path));
  }
  std::set<std::string> targets;
  for (const std::string& path : chosen) targets.insert(some.contains(last_of(path)) ? path : last_of(path));
  return targets;
}

nlohmann::json parse(const std::string& file) {
  try {
    return core::parse_strict_json(core::read_file(file));
  } catch (const core::Error& error) {
    core::fail("{}: it is {}", file, error.what());
  }
}

template <class T>
void require_same(const HfKeys& keys, const char* key, const char* own, const T& given, const T& usual, const T& there) {
  if (given != usual && given != there)
    keys.refuse(key, fmt::format("model.lora.{} is {} here; leave it out, the folder says it", own, given));
}

// Of keys, those that PEFT writes and that change nothing of what the adapters compute.
constexpr auto kIgnored =
    std::to_array<std::string_view>({"auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode",
                                     "loftq_config", "revision", "task_type", "peft_version", "megatron_core",
                                     "runtime_config", "corda_config", "eva_config", "qalora_group_size", "layers_pattern"});

// Adapters that begin as a part of the weights (pissa, olora, corda, loftq, lora_ga) are taken out of these first, and PEFT
// does that again when it reads them: they do not belong to the weights of the base's folder.
void refuse_changed_weights(const HfKeys& keys) {
  constexpr const char* kKey = "init_lora_weights";
  static constexpr std::string_view kKeep[] = {"gaussian", "eva", "mica", "orthogonal"};
  const nlohmann::json& begin = keys.raw(kKey);
  if (begin.is_null() || begin.is_boolean()) return;
  if (begin.is_string() && std::ranges::find(kKeep, begin.get<std::string>()) != std::end(kKeep)) return;
  keys.refuse(kKey,
              "supported are true, false, gaussian, eva, mica and orthogonal, which leave the base's weights as they are; "
              "save_pretrained(..., path_initial_model_for_weight_conversion=...) of PEFT makes such adapters of others");
}

// target_modules as a text is a regular expression of Python's; which layers it chose is seen from the adapters.
std::vector<std::string> adapted_modules(const std::string& file) {
  const std::string_view begin = kPrefix, end = kLoraA;
  const core::SafetensorsReader reader(file);
  std::vector<std::string> modules;
  for (const auto& entry : reader.entries()) {
    const std::string& name = entry.spec.name;
    if (name.size() > begin.size() + end.size() && name.starts_with(begin) && name.ends_with(end))
      modules.push_back(name.substr(begin.size(), name.size() - begin.size() - end.size()));
  }
  if (modules.empty()) core::fail("{}: it has no tensor whose name ends in {}", file, end);
  return modules;
}

std::vector<std::string> modules_of(const HfKeys& keys, const std::string& folder) {
  if (keys.raw("target_modules").is_string()) return adapted_modules(folder + "/" + kAdapterFile);
  std::vector<std::string> modules = keys.texts("target_modules");
  if (modules.empty()) keys.refuse("target_modules", "it has to be a list of modules, or a regular expression");
  return modules;
}

void refuse_other_kinds(const HfKeys& keys) {
  static constexpr std::string_view kLora[] = {"LORA"}, kNone[] = {"none"};
  keys.require_text("peft_type", kLora);
  keys.require_text("bias", kNone);
  for (const char* flag : {"use_dora", "lora_bias", "use_qalora", "use_bdlora"}) keys.require_flag(flag, false);
}

}  // namespace

LoraConfig with_adapters(const LoraConfig& given) {
  const std::string file = given.from + "/" + kAdapterConfig;
  if (!core::exists(file)) core::fail("model.lora.from: {} is not there; PEFT's save_pretrained() writes it", file);
  const HfKeys keys(parse(file), file);
  refuse_other_kinds(keys);
  refuse_changed_weights(keys);
  LoraConfig c = given;
  c.rank = keys.count("r");
  c.alpha = keys.real_or("lora_alpha", 8);
  c.rank_stabilized = keys.flag_or("use_rslora", false);
  const double dropout = keys.real_or("lora_dropout", 0);
  if (given.dropout == 0) c.dropout = dropout;
  c.modules = modules_of(keys, given.from);
  std::ranges::sort(c.modules);
  keys.require_no_others(kIgnored);
  const LoraConfig usual;
  require_same(keys, "r", "rank", given.rank, usual.rank, c.rank);
  require_same(keys, "lora_alpha", "alpha", given.alpha, usual.alpha, c.alpha);
  require_same(keys, "use_rslora", "rank_stabilized", given.rank_stabilized, usual.rank_stabilized, c.rank_stabilized);
  std::vector<std::string> modules = given.modules;
  std::ranges::sort(modules);
  if (!modules.empty() && modules != c.modules)
    keys.refuse("target_modules", "model.lora.modules differs; leave it out, the folder says it");
  return c;
}

std::string write_adapter_config(const ModelConfig& model, const core::ParameterList& parameters, const std::string& base) {
  const LoraConfig& lora = model.lora;
  ordered_json j{{"peft_type", "LORA"}, {"task_type", "CAUSAL_LM"}};
  j["base_model_name_or_path"] = base.empty() ? ordered_json() : ordered_json(base);
  j["r"] = lora.rank;
  const auto whole = static_cast<std::int64_t>(lora.alpha);
  j["lora_alpha"] = static_cast<double>(whole) == lora.alpha ? ordered_json(whole) : ordered_json(lora.alpha);
  j["lora_dropout"] = lora.dropout;
  j["use_rslora"] = lora.rank_stabilized;
  j["target_modules"] = target_modules(model.family, parameters);
  j["fan_in_fan_out"] = !model.is_llama();  // GPT-2's matrices lie transposed
  j["bias"] = "none";
  j["inference_mode"] = true;
  return j.dump(2) + "\n";
}

std::string peft_name(std::string_view family, const core::Parameter& factor) {
  return kPrefix + module_of(family, factor) + std::string(ending_of(factor));
}

AdapterWeights::AdapterWeights(const std::string& folder, const ModelConfig& model, const core::ParameterList& parameters)
    : file_(folder + "/" + kAdapterFile) {
  for (const core::Parameter* p : parameters) {
    if (!is_factor(*p)) continue;
    const std::string name = peft_name(model.family, *p);
    const auto* entry = file_.find(name);
    if (entry == nullptr) core::fail("{}: it has no tensor '{}', which its {} tells of", file_.path(), name, kAdapterConfig);
    if (entry->spec.shape != p->shape)
      core::fail("{}: the tensor '{}' has shape {} there, and {} by this model and its rank", file_.path(), name,
                 core::to_string(entry->spec.shape), core::to_string(p->shape));
    require_float(file_, *entry);
    entries_[p->name] = entry;
  }
  require_no_others();
}

void AdapterWeights::require_no_others() const {
  std::set<const core::SafetensorsReader::Entry*> known;
  for (const auto& [name, entry] : entries_) known.insert(entry);
  for (const auto& entry : file_.entries())
    if (!known.contains(&entry))
      core::fail("{}: the tensor '{}' is no adapter of this model by its {}", file_.path(), entry.spec.name, kAdapterConfig);
}

void AdapterWeights::read(const core::Parameter& factor, std::int64_t begin, std::int64_t count, float* to) const {
  const auto found = entries_.find(factor.name);
  MUONP_ASSERT(found != entries_.end(), "{}", factor.name);
  read_elements(*found->second, begin, count, to);
  file_.require_whole();
}

}  // namespace muonp::models
