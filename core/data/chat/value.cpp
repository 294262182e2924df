#include "core/data/chat/value.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/utf8.h"

namespace muonp::core::jinja {
namespace {

std::string printed_number(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", x);
  return text.find_first_of(".e") == std::string::npos ? fmt::format("{}.0", text) : text;
}

// Python takes single quotes unless only they occur.
std::string quoted_text(std::string_view text) {
  const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == '\\' || c == quote)
      result += {'\\', c};
    else if (c == '\n')
      result += "\\n";
    else if (c == '\t')
      result += "\\t";
    else if (c == '\r')
      result += "\\r";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      result += fmt::format("\\x{:02x}", c);
    else
      result += c;
  }
  return result + quote;
}

std::string json_text(std::string_view text) {
  std::string result(1, '"');
  for (const char c : text) {
    constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f", kNames = "\"\\nrtbf";
    if (const std::size_t i = kEscaped.find(c); i != std::string_view::npos)
      result += {'\\', kNames[i]};
    else if (static_cast<unsigned char>(c) < 0x20)
      result += fmt::format("\\u{:04x}", c);
    else
      result += c;
  }
  return result + '"';
}

// Brackets around parts that are already written, as json.dumps lays them out.
std::string json_group(char open, char close, const std::vector<std::string>& parts, std::int64_t indent,
                       std::size_t depth) {
  if (parts.empty()) return {open, close};
  const auto line = [&](std::size_t levels) {
    return indent < 0 ? std::string() : fmt::format("\n{:{}}", "", levels * static_cast<std::size_t>(indent));
  };
  const std::string between = indent < 0 ? ", " : fmt::format(",{}", line(depth + 1));
  return fmt::format("{}{}{}{}{}", open, line(depth + 1), fmt::join(parts, between), line(depth), close);
}

std::string json_of(const Value& value, std::int64_t indent, std::size_t depth) {
  if (value.is_string()) return json_text(value.text());
  if (value.is_none()) return "null";
  if (value.is<bool>()) return value.as<bool>() ? "true" : "false";
  if (value.is_number()) return value.printed();
  std::vector<std::string> parts;
  if (value.is_list()) {
    for (const Value& item : value.list()) parts.push_back(json_of(item, indent, depth + 1));
    return json_group('[', ']', parts, indent, depth);
  }
  if (!value.is_dictionary()) fail("a value of type {} has no form in JSON", value.type());
  for (const auto& [name, item] : value.dictionary().members)
    parts.push_back(json_text(name) + ": " + json_of(item, indent, depth + 1));
  return json_group('{', '}', parts, indent, depth);
}

bool same_members(const Dictionary& a, const Dictionary& b) {
  return a.members.size() == b.members.size() && std::ranges::all_of(a.members, [&](const auto& member) {
           const Value* other = b.find(member.first);
           return other && *other == member.second;
         });
}

}  // namespace

const Value* Dictionary::find(std::string_view name) const {
  const auto found = std::ranges::find(members, name, [](const auto& member) -> std::string_view { return member.first; });
  return found == members.end() ? nullptr : &found->second;
}

Value Value::from_json(const nlohmann::ordered_json& json) {
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_number_integer()) return Value(json.get<std::int64_t>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_string()) return Value(json.get<std::string>());
  if (json.is_array()) {
    List list;
    for (const auto& item : json) list.push_back(from_json(item));
    return Value(std::move(list));
  }
  if (!json.is_object()) return {};
  Dictionary dictionary;
  for (const auto& [name, item] : json.items()) dictionary.members.emplace_back(name, from_json(item));
  return Value(std::move(dictionary));
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (is_string()) return !text().empty();
  if (is_list()) return !list().empty();
  if (is_dictionary()) return dictionary().is_namespace || !dictionary().members.empty();
  return true;
}

std::string Value::printed() const {
  if (is_undefined()) return "";
  return is_string() ? text() : represented();
}

std::string Value::represented() const {
  if (is_string()) return quoted_text(text());
  if (is_none()) return "None";
  if (is<bool>()) return as<bool>() ? "True" : "False";
  if (is_integer()) return std::to_string(integer());
  if (is<double>()) return printed_number(as<double>());
  std::vector<std::string> parts;
  if (is_list()) {
    for (const Value& item : list()) parts.push_back(item.represented());
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
  if (!is_dictionary()) return is_undefined() ? "Undefined" : fmt::format("<{}>", type());
  for (const auto& [name, item] : dictionary().members) parts.push_back(quoted_text(name) + ": " + item.represented());
  return fmt::format("{{{}}}", fmt::join(parts, ", "));
}

const char* Value::type() const {
  constexpr const char* kNames[] = {"undefined", "NoneType", "bool", "int", "float", "str", "list", "dict", "function"};
  return kNames[content_.index()];
}

std::string Value::to_json(std::int64_t indent) const { return json_of(*this, indent, 0); }

bool operator==(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integer() && b.is_integer() ? a.integer() == b.integer() : a.number() == b.number();
  }
  if (a.is_string() && b.is_string()) return a.text() == b.text();
  if (a.is_list() && b.is_list()) return a.list() == b.list();
  if (a.is_dictionary() && b.is_dictionary()) return same_members(a.dictionary(), b.dictionary());
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

std::vector<std::string_view> characters_of(std::string_view text) {
  std::vector<std::string_view> characters;
  while (!text.empty()) {
    characters.push_back(text.substr(0, std::max<std::size_t>(utf8_length(text), 1)));
    text.remove_prefix(characters.back().size());
  }
  return characters;
}

}  // namespace muonp::core::jinja
