// Methods of strings and dictionaries, as Python has them.
#include <algorithm>
#include <array>
#include <map>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/chat/operations.h"
#include "core/data/tokenizer/unicode.h"

namespace muonp::core::jinja {
namespace {

using Method = Value (*)(const Value&, const Arguments&);

List pieces(std::vector<std::string> texts) {
  List list;
  for (std::string& text : texts) list.emplace_back(std::move(text));
  return list;
}

// Without a separator at runs of white space, of which those at the ends count for nothing.
std::vector<std::string> split_at_space(std::string_view text, std::int64_t most) {
  std::vector<std::string> parts;
  for (std::string rest = trimmed(text, {}, true, false); !rest.empty(); rest = trimmed(rest, {}, true, false)) {
    std::size_t end = 0;
    while (end < rest.size()) {
      const CodePoint c = first_code_point(std::string_view(rest).substr(end));
      if (is_white_space(c.value)) break;
      end += c.bytes;
    }
    if (most >= 0 && std::ssize(parts) == most) end = rest.size();
    parts.push_back(rest.substr(0, end));
    rest.erase(0, end);
  }
  return parts;
}

std::vector<std::string> split_at(std::string_view text, std::string_view separator, std::int64_t most, bool from_right) {
  if (separator.empty()) fail("split: the separator is empty");
  std::vector<std::string> parts;
  while (most < 0 || std::ssize(parts) < most) {
    const std::size_t found = from_right ? text.rfind(separator) : text.find(separator);
    if (found == std::string_view::npos) break;
    parts.emplace_back(from_right ? text.substr(found + separator.size()) : text.substr(0, found));
    text = from_right ? text.substr(0, found) : text.substr(found + separator.size());
  }
  parts.emplace_back(text);
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

template <bool kFromRight>
Value split(const Value& value, const Arguments& a) {
  const Value separator = argument(a, 0, "sep");
  const std::int64_t most = require_integer(argument(a, 1, "maxsplit", Value(std::int64_t{-1})), "maxsplit");
  if (separator.is_none() && kFromRight) fail("rsplit without a separator is not supported");
  if (separator.is_none()) return Value(pieces(split_at_space(value.text(), most)));
  return Value(pieces(split_at(value.text(), require_text(separator, "a separator"), most, kFromRight)));
}

Value split_lines(const Value& value, const Arguments&) {
  std::vector<std::string> lines;
  std::string text = replaced(replaced(value.text(), "\r\n", "\n"), "\r", "\n");
  if (text.empty()) return Value(List{});
  if (text.ends_with('\n')) text.pop_back();
  return Value(pieces(split_at(text, "\n", -1, false)));
}

template <bool kLeft, bool kRight>
Value strip(const Value& value, const Arguments& a) {
  return Value(trimmed(value.text(), argument(a, 0, "chars"), kLeft, kRight));
}

template <bool kAtStart>
Value borders(const Value& value, const Arguments& a) {
  const Value wanted = argument(a, 0, "prefix");
  const auto matches = [&](const Value& text) {
    const std::string& border = require_text(text, "what a text begins or ends with");
    return kAtStart ? value.text().starts_with(border) : value.text().ends_with(border);
  };
  return Value(wanted.is_list() ? std::ranges::any_of(wanted.list(), matches) : matches(wanted));
}

Value find(const Value& value, const Arguments& a) {
  const std::size_t found = value.text().find(require_text(argument(a, 0, "sub"), "what is looked for"));
  if (found == std::string::npos) return Value(std::int64_t{-1});
  return Value(std::int64_t{std::ssize(characters_of(std::string_view(value.text()).substr(0, found)))});
}

Value count(const Value& value, const Arguments& a) {
  return Value(std::int64_t{
      std::ssize(split_at(value.text(), require_text(argument(a, 0, "sub"), "what is counted"), -1, false)) - 1});
}

Value replace(const Value& value, const Arguments& a) {
  return Value(replaced(value.text(), require_text(argument(a, 0, "old"), "what is replaced"),
                        require_text(argument(a, 1, "new"), "a replacement"),
                        require_integer(argument(a, 2, "count", Value(std::int64_t{-1})), "count")));
}

Value join(const Value& value, const Arguments& a) {
  std::vector<std::string> texts;
  for (const Value& part : elements_of(argument(a, 0, "iterable"))) texts.push_back(require_text(part, "what is joined"));
  return Value(fmt::format("{}", fmt::join(texts, value.text())));
}

Value upper(const Value& value, const Arguments&) { return Value(in_case(value.text(), "upper")); }
Value lower(const Value& value, const Arguments&) { return Value(in_case(value.text(), "lower")); }
Value title(const Value& value, const Arguments&) { return Value(in_case(value.text(), "title")); }
Value capitalize(const Value& value, const Arguments&) { return Value(in_case(value.text(), "capitalize")); }

Value items(const Value& value, const Arguments&) {
  List list;
  for (const auto& [name, member] : value.dictionary().members) list.emplace_back(List{Value(std::string(name)), member});
  return Value(std::move(list));
}
Value keys(const Value& value, const Arguments&) { return Value(elements_of(value)); }
Value values(const Value& value, const Arguments&) {
  List list;
  for (const auto& [name, member] : value.dictionary().members) list.push_back(member);
  return Value(std::move(list));
}
Value get(const Value& value, const Arguments& a) {
  const Value key = argument(a, 0, "key");
  const Value* found = key.is_string() ? value.dictionary().find(key.text()) : nullptr;
  return found ? *found : argument(a, 1, "default");
}

const std::map<std::string_view, Method>& methods_of(const Value& value) {
  static const std::map<std::string_view, Method> kText = {{"split", split<false>},
                                                           {"rsplit", split<true>},
                                                           {"splitlines", split_lines},
                                                           {"strip", strip<true, true>},
                                                           {"lstrip", strip<true, false>},
                                                           {"rstrip", strip<false, true>},
                                                           {"startswith", borders<true>},
                                                           {"endswith", borders<false>},
                                                           {"find", find},
                                                           {"count", count},
                                                           {"replace", replace},
                                                           {"join", join},
                                                           {"upper", upper},
                                                           {"lower", lower},
                                                           {"title", title},
                                                           {"capitalize", capitalize}};
  static const std::map<std::string_view, Method> kDictionary = {
      {"items", items}, {"keys", keys}, {"values", values}, {"get", get}};
  static const std::map<std::string_view, Method> kNone;
  return value.is_string() ? kText : value.is_dictionary() ? kDictionary : kNone;
}

}  // namespace

bool has_method(const Value& value, std::string_view name) { return methods_of(value).contains(name); }

Value call_method(const Value& value, const std::string& name, const Arguments& arguments) {
  return methods_of(value).at(name)(value, arguments);
}

std::string trimmed(std::string_view text, const Value& characters, bool left, bool right) {
  const std::string set = characters.is_none() ? "" : require_text(characters, "the characters to strip");
  const auto goes = [&](CodePoint c, std::string_view bytes) {
    return characters.is_none() ? is_white_space(c.value) || (c.value >= 0x1c && c.value <= 0x1f)  // Python's isspace()
                                : set.find(bytes) != std::string::npos;
  };
  for (CodePoint c; left && !text.empty() && (c = first_code_point(text), goes(c, text.substr(0, c.bytes)));)
    text.remove_prefix(c.bytes);
  for (CodePoint c; right && !text.empty() && (c = last_code_point(text), goes(c, text.substr(text.size() - c.bytes)));)
    text.remove_suffix(c.bytes);
  return std::string(text);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, std::int64_t most) {
  if (from.empty()) fail("replace: what is replaced is empty");
  std::string result;
  for (std::int64_t done = 0; most < 0 || done < most; ++done) {
    const std::size_t found = text.find(from);
    if (found == std::string_view::npos) break;
    result.append(text.substr(0, found)).append(to);
    text.remove_prefix(found + from.size());
  }
  return result.append(text);
}

std::string in_case(std::string_view text, std::string_view which) {
  if (which == "lower") return lower_case(text);
  std::string result;
  bool begins = true;  // a word, or the text
  for (const std::string_view c : characters_of(text)) {
    result += which == "upper" ? upper_case(c) : begins ? title_case(c) : lower_case(c);
    const int folded = c[0] | 32;
    const bool letter = c.size() > 1 || (folded >= 'a' && folded <= 'z');
    begins = which == "title" && !letter;
  }
  return result;
}

}  // namespace muonp::core::jinja
