#include "core/data/finetuning/example.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/files/strict_json.h"

namespace muonp::core {
namespace {

using nlohmann::json;

template <class... Args>
[[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) {
  throw BadExample(fmt::format(format, std::forward<Args>(args)...));
}

json parse_object(std::string_view line) {
  json object;
  try {
    object = parse_strict_json(line);
  } catch (const Error& error) {
    throw BadExample(error.what());
  }
  if (object.is_array()) bad("it is a list; a line is one object, as {{\"prompt\": ..., \"completion\": ...}}");
  if (!object.is_object()) bad("it is no object");
  return object;
}

// A text or a whole number, as a template puts it into a text.
std::string value_text(const json& object, const std::string& field) {
  const json& value = object.at(field);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  bad("{} is {}, no text", field, value.type_name());
}

std::string fill(const FieldTemplate& pattern, const json& object) {
  return pattern.fill([&](const std::string& field) { return value_text(object, field); });
}

bool has_all(const json& object, const std::vector<std::string>& fields) {
  return std::ranges::all_of(fields, [&](const std::string& f) { return object.contains(f); });
}

std::string joined_parts(const json& parts) {
  std::string text;
  for (const json& part : parts) {
    if (!part.is_object() || !part.contains("type") || !part.at("type").is_string()) bad("a part of a content has no type");
    const auto type = part.at("type").get<std::string>();
    if (type != "text") bad("a content has a part of type {}; only text can be trained on", type);
    if (!part.contains("text") || !part.at("text").is_string()) bad("a part of a content has no text");
    text += part.at("text").get<std::string>();
  }
  return text;
}

ChatMessage parse_message(const json& message) {
  if (!message.is_object()) bad("a message is {}, no object", message.type_name());
  if (!message.contains("role") || !message.at("role").is_string()) bad("a message has no role");
  ChatMessage parsed{message.at("role").get<std::string>(), ""};
  if (!message.contains("content")) bad("a message of the {} has no content", parsed.role);
  const json& content = message.at("content");
  if (!content.is_string() && !content.is_array())
    bad("the content of a message of the {} is {}; it is a text, or a list of text parts", parsed.role, content.type_name());
  parsed.content = content.is_string() ? content.get<std::string>() : joined_parts(content);
  return parsed;
}

bool has_tools(const json& object) { return object.contains("tools") || object.contains("tool_calls"); }

void read_messages(const json& list, Example& example) {
  if (!list.is_array()) bad("its messages are {}, no list", list.type_name());
  bool answered = false;
  for (const json& message : list) {
    const ChatMessage& parsed = example.messages.emplace_back(parse_message(message));
    example.tools = example.tools || has_tools(message);
    if (parsed.role != "assistant") continue;
    if (parsed.content.empty()) bad("an answer of the assistant is empty");
    answered = true;
  }
  if (!answered) bad("it has no message of the assistant");
}

}  // namespace

ExampleFormat::ExampleFormat(const DataConfig& config)
    : text_(config.text, "data.text"),
      prompt_(config.prompt, "data.prompt"),
      completion_(config.completion, "data.completion"),
      messages_(config.messages) {
  if (completion_.fields().empty()) fail("data.completion: '{}' has no field; one is {{answer}}", config.completion);
  if (text_.fields().empty() && !text_.empty())
    fail("data.text: '{}' has no field; one is {{text}}, and nothing says that no line is a text", config.text);
}

std::string ExampleFormat::fields_of(ExampleKind kind) const {
  if (kind == ExampleKind::messages) return messages_;
  std::vector<std::string> names = kind == ExampleKind::text ? text_.fields() : prompt_.fields();
  if (kind == ExampleKind::completion)
    for (const std::string& name : completion_.fields()) names.push_back(name);
  return fmt::format("{}", fmt::join(names, " and "));
}

Example ExampleFormat::parse(std::string_view line) const {
  const json object = parse_object(line);
  std::vector<ExampleKind> kinds;
  if (!messages_.empty() && object.contains(messages_)) kinds.push_back(ExampleKind::messages);
  if (has_all(object, prompt_.fields()) && has_all(object, completion_.fields())) kinds.push_back(ExampleKind::completion);
  if (!text_.empty() && has_all(object, text_.fields())) kinds.push_back(ExampleKind::text);
  if (kinds.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, value] : object.items()) names.push_back(name);
    bad("it has none of {}; {}, or {}; but {}", fields_of(ExampleKind::text), fields_of(ExampleKind::completion),
        fields_of(ExampleKind::messages), names.empty() ? "nothing" : fmt::format("{}", fmt::join(names, ", ")));
  }
  if (kinds.size() > 1)
    bad("it has {} and {}; an empty data.text or data.messages says that these are not meant", fields_of(kinds[0]),
        fields_of(kinds[1]));
  Example example{.kind = kinds.front(), .tools = has_tools(object)};
  if (example.kind == ExampleKind::messages) read_messages(object.at(messages_), example);
  if (example.kind == ExampleKind::completion) example.prompt = fill(prompt_, object);
  if (example.kind != ExampleKind::messages)
    example.completion = fill(example.kind == ExampleKind::text ? text_ : completion_, object);
  if (example.kind != ExampleKind::messages && example.completion.empty())
    bad("its {} is empty", example.kind == ExampleKind::text ? "text" : "completion");
  return example;
}

}  // namespace muonp::core
