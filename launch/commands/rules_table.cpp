#include "launch/commands/rules_table.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/index.h"
#include "core/base/math.h"
#include "core/config/config_tree.h"
#include "launch/report/table.h"
#include "optim/rules/rule.h"

namespace muonp::launch {
namespace {

using optim::AnyRule;
using optim::Form;
using optim::Home;
using optim::StateDtype;
using optim::StateSpec;
using optim::Storage;

const std::int64_t kBytes = core::size_of(core::Dtype::float32);

Storage storage_of(const StateSpec& state, StateDtype dtype) {
  return {dtype, state.home == Home::shard ? state.content : optim::Content::exact};
}

const char* name_of(Form form) {
  switch (form) {
    case Form::elements:
      return "elements";
    case Form::rows:
      return "rows";
    case Form::columns:
      return "columns";
    case Form::scalar:
      return "scalar";
    case Form::square:
      return "square";
    case Form::row_square:
      return "row_square";
    case Form::column_square:
      return "column_square";
  }
  throw core::InternalError("a state without a form");
}

// Numbers of one matrix [m, n] with k = min(m, n), beside those of its own shape.
const char* count_of(Form form) {
  switch (form) {
    case Form::elements:
      return "";
    case Form::rows:
      return "m";
    case Form::columns:
      return "n";
    case Form::scalar:
      return "1";
    case Form::square:
      return "k²";
    case Form::row_square:
      return "m²";
    case Form::column_square:
      return "n²";
  }
  throw core::InternalError("a state without a form");
}

// Of the states of elements, where those that may be are kept in that type.
double bytes_per_element(const std::vector<StateSpec>& states, StateDtype dtype) {
  double bytes = 0;
  for (const StateSpec& state : states)
    if (state.form == Form::elements) bytes += optim::stored_bytes_per_element(storage_of(state, dtype));
  return bytes;
}

bool may_be_narrow(const StateSpec& state) { return storage_of(state, StateDtype::int8).narrow(); }

std::string narrow_text(const std::vector<StateSpec>& states, StateDtype dtype) {
  return std::ranges::any_of(states, may_be_narrow) ? fmt::format("{:.6g}", bytes_per_element(states, dtype)) : "";
}

std::string state_text(const std::vector<StateSpec>& states) {
  std::vector<std::string> more;
  for (const StateSpec& state : states)
    if (state.form != Form::elements) more.emplace_back(count_of(state.form));
  const std::string of_elements = fmt::format("{}", bytes_per_element(states, StateDtype::float32));
  return more.empty() ? of_elements : fmt::format("{} + {}({})", of_elements, kBytes, fmt::join(more, " + "));
}

nlohmann::ordered_json bytes_by_dtype(const std::vector<StateSpec>& states) {
  nlohmann::ordered_json bytes;
  for (const StateDtype dtype : {StateDtype::float32, StateDtype::bfloat16, StateDtype::int8})
    bytes[std::string(optim::kStateDtypes[core::at(dtype)])] = bytes_per_element(states, dtype);
  return bytes;
}

std::vector<std::pair<std::string, std::string>> keys_of(AnyRule rule) {
  const core::config::Tree tree =
      core::config::parse_tree(core::write_config([&](core::Fields& f) { rule->describe(f); }), std::string(rule->name()));
  std::vector<std::pair<std::string, std::string>> keys;
  for (const core::config::Tree::Entry& entry : tree.keys) keys.emplace_back(entry.key, entry.value.scalar);
  return keys;
}

}  // namespace

std::string rules_as_text() {
  Table table({"rule", "moves", "state", "bfloat16", "int8", "published lr", "source"});
  std::string keys;
  for (const std::string_view name : optim::rule_names()) {
    const AnyRule rule(name);
    const std::vector<StateSpec> states = rule->states();
    table.add({std::string(name), rule->needs().whole_matrices ? "matrices" : "elements", state_text(states),
               narrow_text(states, StateDtype::bfloat16), narrow_text(states, StateDtype::int8),
               std::string(rule->published_lr()), std::string(rule->source())});
    keys += fmt::format("\n{}:", name);
    for (const auto& [key, value] : keys_of(rule)) keys += fmt::format(" {}: {};", key, value);
    keys.back() = '.';
  }
  return fmt::format(
      "{}\nstate: bytes an element, and beside them those of a matrix [m, n], k = min(m, n); bfloat16, int8: bytes an "
      "element "
      "by state_dtype.\n{}\n"
      "Meaning and valid values of each key: muonp config --reference",
      table.render(), keys);
}

std::string rules_as_json() {
  nlohmann::ordered_json all;
  for (const std::string_view name : optim::rule_names()) {
    const AnyRule rule(name);
    nlohmann::ordered_json keys = nlohmann::ordered_json::object(), states = nlohmann::ordered_json::array();
    for (const auto& [key, value] : keys_of(rule)) keys[key] = value;
    for (const StateSpec& state : rule->states())
      states.push_back({{"name", state.name},
                        {"form", name_of(state.form)},
                        {"home", state.home == Home::shard ? "shard" : "owner"},
                        {"bytes", kBytes},
                        {"narrow", may_be_narrow(state)}});
    all[std::string(name)] = {
        {"moves", rule->needs().whole_matrices ? "matrices" : "elements"},
        {"source", rule->source()},
        {"published_lr", rule->published_lr()},
        {"keys", keys},
        {"state", states},
        {"state_bytes_per_element", kBytes * std::ranges::count(rule->states(), Form::elements, &StateSpec::form)},
        {"state_bytes_per_element_by_dtype", bytes_by_dtype(rule->states())}};
  }
  return all.dump(2);
}

}  // namespace muonp::launch
