#include "core/data/chat/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/data/chat/evaluator.h"
#include "core/data/chat/nodes.h"
#include "core/data/chat/operations.h"
#include "core/data/tokenizer/tokenizer_config.h"
#include "core/data/tokenizer/unicode.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using jinja::NamedValues;
using jinja::Value;

// With the members of objects in their order, which templates print.
Value parse_value(std::string_view json, const std::string& what) {
  try {
    parse_strict_json(json);
    return Value::from_json(nlohmann::ordered_json::parse(json));
  } catch (const Error& error) {
    fail("{}: {}", what, error.what());
  }
}

NamedValues parse_variables(std::string_view json, const std::string& what) {
  if (json.empty()) return {};
  const Value value = parse_value(json, what);
  if (!value.is_dictionary()) fail("{} are no JSON object", what);
  return value.dictionary().members;
}

bool uses_generation(const jinja::Block& block) {
  return std::ranges::any_of(block, [](const jinja::Statement& s) {
    return s.kind == jinja::StatementKind::generation || uses_generation(s.body) || uses_generation(s.otherwise);
  });
}

std::string repaired(std::string_view text) {
  std::string buffer;
  return std::string(repaired_utf8(text, buffer));
}

Value messages_value(std::span<const ChatMessage> messages) {
  jinja::List list;
  for (const ChatMessage& message : messages) {
    jinja::Dictionary members;
    members.members = {{"role", Value(repaired(message.role))}, {"content", Value(repaired(message.content))}};
    list.emplace_back(std::move(members));
  }
  return Value(std::move(list));
}

// The template of tokenizer_config.json; empty if there is none.
std::string configured_template(const TokenizerConfig& config) {
  const auto found = config.content.find("chat_template");
  if (found == config.content.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) fail("{}: chat_template is neither a string nor a list of named ones", config.path);
  for (const auto& named : *found)
    if (named.is_object() && named.value("name", nlohmann::json()) == "default" && named.contains("template") &&
        named["template"].is_string())
      return named["template"].get<std::string>();
  fail("{}: chat_template has none that is named 'default'", config.path);
}

}  // namespace

struct ChatTemplate::State {
  std::string source, name;
  jinja::Block block;  // refers to source
  NamedValues variables;
  bool marks = false;
};

bool ChatTemplate::exists(const std::string& folder) {
  return core::exists(folder + "/chat_template.jinja") || !configured_template(read_tokenizer_config(folder)).empty();
}

ChatTemplate ChatTemplate::open(const std::string& folder) {
  const TokenizerConfig config = read_tokenizer_config(folder);
  const std::string file = folder + "/chat_template.jinja";
  const bool own = core::exists(file);
  const std::string source = own ? read_file(file) : configured_template(config);
  if (source.empty())
    fail(
        "{}: there is no chat template in this folder; it stands in chat_template.jinja or as chat_template in "
        "tokenizer_config.json",
        folder);
  nlohmann::json variables = nlohmann::json::object();
  for (const auto& [token, text] : config.special_tokens) variables[token] = text;
  return parse(source, own ? file : config.path + ": chat_template", variables.dump());
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name, std::string_view variables) {
  const auto state = std::make_shared<State>();
  state->source = jinja::replaced(jinja::replaced(repaired(source), "\r\n", "\n"), "\r", "\n");
  state->name = name;
  state->block = jinja::parse_template(state->source, state->name);
  state->variables = parse_variables(variables, name + ": variables");
  state->marks = uses_generation(state->block);
  return ChatTemplate(state);
}

namespace {

RenderedChat render_values(const jinja::Block& block, const std::string& name, NamedValues variables, Value messages,
                           bool add_generation_prompt, const NamedValues& extra) {
  variables.emplace_back("messages", std::move(messages));
  variables.emplace_back("tools", Value());
  variables.emplace_back("documents", Value());
  variables.emplace_back("add_generation_prompt", Value(add_generation_prompt));
  variables.insert(variables.end(), extra.begin(), extra.end());
  return jinja::evaluate(block, name, variables);
}

}  // namespace

RenderedChat ChatTemplate::render_marked(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  return render_values(state_->block, state_->name, state_->variables, messages_value(messages), add_generation_prompt, {});
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  return render_marked(messages, add_generation_prompt).text;
}

RenderedChat ChatTemplate::render_json(std::string_view messages, bool add_generation_prompt, std::string_view extra) const {
  Value list = parse_value(messages, "messages");
  if (!list.is_list()) fail("messages are no JSON array of objects");
  return render_values(state_->block, state_->name, state_->variables, std::move(list), add_generation_prompt,
                       parse_variables(extra, "variables of a chat template"));
}

bool ChatTemplate::marks_generations() const { return state_->marks; }
const std::string& ChatTemplate::source() const { return state_->source; }

}  // namespace muonp::core
