#include "launch/train/run_identity.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "launch/program/build_info.h"
#include "optim/plan/groups.h"
#include "optim/rules/muonp.h"

namespace muonp::launch {

using core::NamedValue;
using core::NamedValues;
using nlohmann::json;

namespace {

// What a change of a key since the checkpoint means.
enum class Change : std::uint8_t {
  refused,  // another model, other samples, or state that stands for something else
  told,     // the run goes on in another way, as its user may want
  free      // it changes no result, or only who computes what
};

struct KeyPattern {
  std::string_view pattern;
  Change change;
};
// The first that matches decides.
constexpr KeyPattern kChanges[] = {
    {"model.preset", Change::free},  // the sizes say it
    {"model.head_chunk_rows", Change::free},
    {"model.recompute", Change::free},
    {"model.logits_dtype", Change::told},
    {"model.dropout", Change::told},
    {"model.lora.from", Change::free},  // the checkpoint has what became of them
    {"model.lora.dropout", Change::told},
    {"model.qk_clip.*", Change::told},
    {"model.*", Change::refused},
    {"run.seed", Change::refused},
    {"run.steps", Change::told},
    {"data.cache", Change::free},
    {"data.skip_bad", Change::free},       // what it leaves out is not in the data,
    {"data.chat_template", Change::free},  // and what a template writes is
    {"data.micro_batch", Change::free},
    {"data.*", Change::refused},
    {"optimizer.*.name", Change::free},
    {"optimizer.groups", Change::refused},  // their number
    {"optimizer.*.splits*", Change::refused},
    {"optimizer.*.select", Change::refused},
    {"optimizer.*.rule", Change::refused},
    {"optimizer.*.p", Change::refused},
    {"optimizer.*.lora", Change::refused},
    {"optimizer.*.scale", Change::refused},
    {"optimizer.*.momentum_form", Change::refused},
    {"optimizer.*", Change::told},
    {"schedule.*", Change::told},
    {"compression.*", Change::told},
    {"parallel.compute", Change::told},
};

Change change_of(std::string_view key) {
  const auto found =
      std::ranges::find_if(kChanges, [&](const KeyPattern& k) { return optim::matches_pattern(k.pattern, key); });
  return found == std::end(kChanges) ? Change::free : found->change;
}

const NamedValue* find(const NamedValues& values, std::string_view key) {
  const auto found = std::ranges::find(values, key, &NamedValue::name);
  return found == values.end() ? nullptr : &*found;
}

template <class Patterns>
bool matches_any(const Patterns& patterns, std::string_view key) {
  return std::ranges::any_of(patterns, [&](std::string_view p) { return optim::matches_pattern(p, key); });
}

NamedValues values_of(RunConfig config) {  // a copy: a description may change what it describes
  return core::config_values([&](core::Fields& f) { config.describe(f); });
}

// Whether the key belongs to an entry of a list, whose number of entries is a value of its own.
bool in_list(std::string_view key) {
  return std::ranges::any_of(std::string_view("0123456789"),
                             [&](char digit) { return key.find(std::string(".") + digit) != std::string_view::npos; });
}

std::string shortened(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 8;
  if (names.size() <= kShown) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + kShown, ", "), names.size() - kShown);
}

std::string text_of(const json& j, const std::string& file, const char* what) {
  if (!j.is_string()) core::fail("{}: '{}' is no text; no run of this program wrote it", file, what);
  return j.get<std::string>();
}

struct Difference {
  std::string key, saved, mine;
};
struct Comparison {
  std::vector<Difference> differences;
  std::vector<std::string> unsaid;  // keys that the saved identity lacks
};

Comparison compare(const NamedValues& saved, const NamedValues& mine) {
  Comparison result;
  for (const NamedValue& v : mine) {
    const NamedValue* other = find(saved, v.name);
    if (other != nullptr && other->value != v.value) result.differences.push_back({v.name, other->value, v.value});
    if (other == nullptr && !in_list(v.name)) result.unsaid.push_back(v.name);
  }
  return result;
}

std::string line_of(const Difference& d) {
  return fmt::format("\n  {}: {} here, {} in the checkpoint", d.key, d.mine, d.saved);
}

std::vector<std::string> tell_of_unsaid(const std::string& path, const std::vector<std::string>& unsaid) {
  if (unsaid.empty()) return {};
  return {fmt::format("{} does not say {}; what this run has is taken to be the same", path, shortened(unsaid))};
}

// The keys of a section that was not there yet, as they are where it is not used.
template <class Section>
void add_unused(const std::string& path, NamedValues& values) {
  Section none;
  for (NamedValue& v : core::config_values([&](core::Fields& f) { none.describe(f); }))
    values.push_back({path + "." + v.name, std::move(v.value)});
}

// Of a checkpoint from before there were adapters.
void add_no_adapters(NamedValues& values) {
  add_unused<models::LoraConfig>("model.lora", values);
  constexpr std::string_view kExponent = ".p";
  for (std::size_t i = 0, count = values.size(); i < count; ++i)
    if (const std::string name = values[i].name; name.starts_with("optimizer.") && name.ends_with(kExponent))
      values.push_back({name.substr(0, name.size() - kExponent.size()) + ".lora", optim::Muonp().lora});
}

}  // namespace

std::string describe_tokenizer(const core::Tokenizer& tokenizer) {
  if (tokenizer.name() == "byte") return "byte";
  return fmt::format("{} ids, hash {:016x}", tokenizer.vocabulary(), tokenizer.fingerprint());
}

std::string describe_tokens(const core::TokenSource& tokens) {
  return fmt::format("{} tokens, hash {:016x}", tokens.size(), tokens.fingerprint());
}

std::string describe_examples(const core::ExampleStore& examples) {
  return fmt::format("{} examples, hash {:016x}", examples.size(), examples.hash());
}

NamedValues data_identity(const core::DataConfig& config, const core::Dataset& dataset) {
  const bool own = !config.validation.empty();
  const auto& train = dataset.train_examples;
  const auto& validation = dataset.validation_examples;
  NamedValues values = {
      {"data.tokenizer", describe_tokenizer(*dataset.tokenizer)},
      {"data.train", train.empty() ? describe_tokens(dataset.whole) : describe_examples(train.front().store)},
      {"data.validation", !own                 ? "none"
                          : validation.empty() ? describe_tokens(dataset.validation)
                                               : describe_examples(validation.front().store)},
      {"data.validation_fraction", own ? "unused" : fmt::format("{}", config.validation_fraction)}};
  for (std::size_t i = 1; i < train.size(); ++i)
    values.push_back({fmt::format("data.mix.{}.file", i - 1), describe_examples(train[i].store)});
  return values;
}

RunIdentity run_identity(const RunConfig& config, const NamedValues& data) {
  RunIdentity identity;
  for (NamedValue& v : values_of(config))
    if (change_of(v.name) != Change::free && v.name != kStartingWeights && find(data, v.name) == nullptr)
      identity.values.push_back(std::move(v));
  identity.values.insert(identity.values.end(), data.begin(), data.end());
  std::error_code unknown;
  identity.folder = std::filesystem::current_path(unknown).string();
  return identity;
}

void take_over(const RunIdentity& saved, RunIdentity& mine) {
  const NamedValue* weights = find(saved.values, kStartingWeights);
  if (weights != nullptr && find(mine.values, kStartingWeights) == nullptr) mine.values.push_back(*weights);
}

NamedValues rank_identity(const RunConfig& config) {
  constexpr std::string_view kOwn[] = {"parallel.threads", "data.train", "data.validation", "data.tokenizer",
                                       kStartingWeights};
  NamedValues values = {{"the build of muonp", describe_build()}};
  for (NamedValue& v : values_of(config))
    if (std::ranges::find(kOwn, v.name) == std::end(kOwn)) values.push_back(std::move(v));
  return values;
}

std::string to_json(const RunIdentity& identity) {
  json values = json::object();
  for (const NamedValue& v : identity.values) values[v.name] = v.value;
  // A folder's name need not be UTF-8; one that is not is not found again.
  return json{{"values", values}, {"folder", identity.folder}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

RunIdentity identity_from_json(const std::string& text, const std::string& file) {
  const json j = json::parse(text, nullptr, false);
  if (!j.is_object() || !j.contains("values") || !j.at("values").is_object())
    core::fail("{}: the description of its run is no such thing; no run of this program wrote it", file);
  RunIdentity identity;
  for (const auto& [name, value] : j.at("values").items())
    identity.values.push_back({name, text_of(value, file, name.c_str())});
  const bool of_model =
      std::ranges::any_of(identity.values, [](const NamedValue& v) { return v.name.starts_with("model."); });
  if (of_model && find(identity.values, "model.family") == nullptr)
    identity.values.push_back({"model.family", "gpt"});  // before there were others
  if (of_model && find(identity.values, "model.lora.rank") == nullptr) add_no_adapters(identity.values);
  if (of_model && find(identity.values, "model.qk_clip.enabled") == nullptr)
    add_unused<models::QkClipConfig>("model.qk_clip", identity.values);
  if (j.contains("folder")) identity.folder = text_of(j.at("folder"), file, "folder");
  return identity;
}

RunIdentity identity_of(const core::Checkpoint& checkpoint) {
  const json state = json::parse(checkpoint.state_json(), nullptr, false);
  if (!state.is_object()) return {};
  if (state.contains("identity"))
    return identity_from_json(state.at("identity").dump(), checkpoint.path() + "/" + core::kManifestName);
  RunIdentity identity;  // before there was one, three numbers stood alone
  for (const auto& [key, setting] : {std::pair{"seed", "run.seed"}, {"batch", "data.batch"}, {"sequence", "data.sequence"}})
    if (state.contains(key)) identity.values.push_back({setting, state.at(key).dump()});
  return identity;
}

std::vector<std::string> require_same_run(const std::string& path, const RunIdentity& saved, const NamedValues& mine,
                                          std::span<const std::string> allowed) {
  const Comparison found = compare(saved.values, mine);
  std::string refused;
  std::vector<std::string> keys, lines = tell_of_unsaid(path, found.unsaid);
  for (const Difference& d : found.differences) {
    if (change_of(d.key) == Change::refused && !matches_any(allowed, d.key)) {
      refused += line_of(d);
      keys.push_back(d.key);
    } else {
      lines.push_back(fmt::format("{} changes from {} to {}", d.key, d.saved, d.mine));
    }
  }
  if (!refused.empty())
    core::fail(
        "{}: this run is not the one that the checkpoint is of:{}\nGo on with the checkpoint's values, or choose another "
        "run.name for a new run; checkpoint.allow: [{}] makes the change knowingly",
        path, refused, fmt::join(keys, ", "));
  return lines;
}

std::vector<std::string> require_same_values(const std::string& path, const RunIdentity& saved, const NamedValues& mine,
                                             std::span<const std::string_view> patterns, const std::string& advice) {
  NamedValues compared;
  std::ranges::copy_if(mine, std::back_inserter(compared), [&](const NamedValue& v) {
    return change_of(v.name) == Change::refused && matches_any(patterns, v.name);
  });
  const Comparison found = compare(saved.values, compared);
  std::string refused;
  for (const Difference& d : found.differences) refused += line_of(d);
  if (!refused.empty()) core::fail("{}: this is not what the run was trained with:{}\n{}", path, refused, advice);
  return tell_of_unsaid(path, found.unsaid);
}

std::string evaluated_tensor(const core::PieceReader& reader, const std::string& parameter) {
  std::string average = fmt::format("{}/{}", parameter, optim::kAverage);
  return reader.contains(average) ? average : parameter + "/master";
}

std::set<std::string> parameters_in(const core::PieceReader& reader) {
  std::set<std::string> names;
  for (const std::string& name : reader.names()) names.insert(name.substr(0, name.rfind('/')));
  return names;
}

void require_same_parameters(const std::string& path, const std::set<std::string>& stored,
                             const core::ParameterList& parameters) {
  std::set<std::string> of_model;
  for (const core::Parameter* p : parameters) of_model.insert(p->name);
  std::vector<std::string> foreign, missing;
  std::ranges::set_difference(stored, of_model, std::back_inserter(foreign));
  std::ranges::set_difference(of_model, stored, std::back_inserter(missing));
  if (!foreign.empty()) core::fail("{}: it is of another model: this one has no parameter {}", path, shortened(foreign));
  if (!missing.empty()) core::fail("{}: it is of another model: it lacks the parameter {}", path, shortened(missing));
}

}  // namespace muonp::launch
