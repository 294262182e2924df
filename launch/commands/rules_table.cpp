#include "launch/commands/rules_table.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/math.h"
#include "core/config/config_tree.h"
#include "launch/report/table.h"
#include "optim/rules/rule.h"

namespace muonp::launch {
namespace {

using optim::AnyRule;
using optim::Form;
using optim::Home;
using optim::StateSpec;

const std::int64_t kBytes = core::size_of(core::Dtype::float32);

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

std::int64_t bytes_per_element(const std::vector<StateSpec>& states) {
  return kBytes * std::ranges::count(states, Form::elements, &StateSpec::form);
}

std::string state_text(const std::vector<StateSpec>& states) {
  std::vector<std::string> more;
  for (const StateSpec& state : states)
    if (state.form != Form::elements) more.emplace_back(count_of(state.form));
  const std::string of_elements = fmt::format("{}", bytes_per_element(states));
  return more.empty() ? of_elements : fmt::format("{} + {}({})", of_elements, kBytes, fmt::join(more, " + "));
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
  Table table({"rule", "moves", "state", "published lr", "source"});
  std::string keys;
  for (const std::string_view name : optim::rule_names()) {
    const AnyRule rule(name);
    table.add({std::string(name), rule->needs().whole_matrices ? "matrices" : "elements", state_text(rule->states()),
               std::string(rule->published_lr()), std::string(rule->source())});
    keys += fmt::format("\n{}:", name);
    for (const auto& [key, value] : keys_of(rule)) keys += fmt::format(" {}: {};", key, value);
    keys.back() = '.';
  }
  return fmt::format(
      "{}\nstate: bytes an element, and beside them those of a matrix [m, n], k = min(m, n).\n{}\n"
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
                        {"bytes", kBytes}});
    all[std::string(name)] = {{"moves", rule->needs().whole_matrices ? "matrices" : "elements"},
                              {"source", rule->source()},
                              {"published_lr", rule->published_lr()},
                              {"keys", keys},
                              {"state", states},
                              {"state_bytes_per_element", bytes_per_element(rule->states())}};
  }
  return all.dump(2);
}

}  // namespace muonp::launch
