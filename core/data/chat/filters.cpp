// Filters and tests of Jinja, with transformers' tojson.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/chat/operations.h"

namespace muonp::core::jinja {
namespace {

using Filter = Value (*)(const Value&, const Arguments&);
using Test = bool (*)(const Value&, const Arguments&);

Value first(const Value& value, const Arguments&) {
  const List all = elements_of(value);
  return all.empty() ? Value::undefined("the first of nothing") : all.front();
}
Value last(const Value& value, const Arguments&) {
  const List all = elements_of(value);
  return all.empty() ? Value::undefined("the last of nothing") : all.back();
}
Value trim(const Value& value, const Arguments& a) {
  return Value(trimmed(value.printed(), argument(a, 0, "chars"), true, true));
}
Value length(const Value& value, const Arguments&) { return Value(length_of(value)); }
Value to_json(const Value& value, const Arguments& a) {
  const Value indent = argument(a, 0, "indent");
  return Value(value.to_json(indent.is_none() ? -1 : std::clamp<std::int64_t>(require_integer(indent, "indent"), 0, 64)));
}
Value otherwise(const Value& value, const Arguments& a) {
  const bool missing = value.is_undefined() || (argument(a, 1, "boolean", Value(false)).truth() && !value.truth());
  return missing ? argument(a, 0, "default_value", Value(std::string())) : value;
}

Value join(const Value& value, const Arguments& a) {
  const Value member = argument(a, 1, "attribute");
  std::vector<std::string> texts;
  for (const Value& part : elements_of(value)) texts.push_back((member.is_none() ? part : item(part, member)).printed());
  return Value(fmt::format("{}", fmt::join(texts, argument(a, 0, "d", Value(std::string())).printed())));
}

template <int kCase>
Value cased(const Value& value, const Arguments&) {
  constexpr std::array kNames = {"upper", "lower", "title", "capitalize"};
  const std::string text = kCase >= 2 ? in_case(value.printed(), "lower") : value.printed();
  return Value(in_case(text, kNames[kCase]));
}

Value to_text(const Value& value, const Arguments&) { return Value(value.printed()); }
Value to_list(const Value& value, const Arguments&) { return Value(elements_of(value)); }
Value items(const Value& value, const Arguments& a) {
  if (value.is_undefined()) return Value(List{});
  if (!value.is_dictionary()) fail("items: a value of type {} is no dictionary", value.type());
  return call_method(value, "items", a);
}

// Towards 0; `missing` for what Python has no integer for.
Value truncated(double x, const Value& missing) {
  constexpr double kBeyond = 0x1p63;
  if (!std::isfinite(x)) return missing;
  if (std::abs(x) >= kBeyond) fail("{} is too large for an integer", x);
  return Value(static_cast<std::int64_t>(x));
}

Value to_integer(const Value& value, const Arguments& a) {
  const Value missing = argument(a, 0, "default", Value(std::int64_t{0}));
  if (value.is<double>()) return truncated(value.number(), missing);
  if (value.is_integer()) return Value(value.integer());
  const std::string text = trimmed(value.printed(), {}, true, true);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole ? Value(number) : missing;
}

Value reverse(const Value& value, const Arguments&) { return slice(value, {}, {}, Value(std::int64_t{-1})); }
Value replace(const Value& value, const Arguments& a) { return call_method(Value(value.printed()), "replace", a); }
Value absolute(const Value& value, const Arguments&) {
  return binary("<", value, Value(std::int64_t{0})).truth() ? negative(value) : value;
}

Value indent(const Value& value, const Arguments& a) {
  const Value width = argument(a, 0, "width", Value(std::int64_t{4}));
  const std::string pad = width.is_string()
                              ? width.text()
                              : std::string(at(std::clamp<std::int64_t>(require_integer(width, "width"), 0, 256)), ' ');
  const bool first_too = argument(a, 1, "first", Value(false)).truth(),
             blank_too = argument(a, 2, "blank", Value(false)).truth();
  std::string result;
  bool begins = first_too;
  for (const char c : value.printed()) {
    if (begins && (c != '\n' || blank_too)) result += pad;
    begins = c == '\n';
    result += c;
  }
  return Value(result);
}

// The first of the arguments, which has no name and goes.
std::string take_text(List& arguments, std::string_view what) {
  const std::string text = require_text(arguments.empty() ? Value() : arguments.front(), what);
  arguments.erase(arguments.begin());
  return text;
}

// map("name of a filter", its arguments...) or map(attribute="name").
Value map(const Value& value, const Arguments& a) {
  const Value member = argument(a, ~std::size_t{0}, "attribute");
  Arguments rest = a;
  std::string name;
  if (member.is_none()) {
    name = take_text(rest.positional, "the filter of map");
    if (!is_filter(name)) fail("the filter '{}' is not supported", name);
  }
  List all;
  for (const Value& part : elements_of(value))
    all.push_back(member.is_none() ? filter(name, part, rest) : item(part, member));
  return Value(std::move(all));
}

// select("test", ...), and selectattr("member", "test", ...); without a test: what is true.
template <bool kByMember, bool kKeep>
Value select(const Value& value, const Arguments& a) {
  List arguments = a.positional;
  Value member;
  if (kByMember) member = Value(take_text(arguments, "the member of selectattr or rejectattr"));
  const std::string name = arguments.empty() ? "" : take_text(arguments, "the test of a selection");
  if (!name.empty() && !is_test(name)) fail("the test '{}' is not supported", name);
  List kept;
  for (const Value& part : elements_of(value)) {
    const Value tested = kByMember ? item(part, member) : part;
    if ((name.empty() ? tested.truth() : test(name, tested, {arguments, {}})) == kKeep) kept.push_back(part);
  }
  return Value(std::move(kept));
}

Value unique(const Value& value, const Arguments&) {
  List kept;
  for (const Value& part : elements_of(value))
    if (std::ranges::find(kept, part) == kept.end()) kept.push_back(part);
  return Value(std::move(kept));
}

const std::map<std::string_view, Filter> kFilters = {{"first", first},
                                                     {"last", last},
                                                     {"trim", trim},
                                                     {"length", length},
                                                     {"count", length},
                                                     {"tojson", to_json},
                                                     {"default", otherwise},
                                                     {"d", otherwise},
                                                     {"join", join},
                                                     {"upper", cased<0>},
                                                     {"lower", cased<1>},
                                                     {"title", cased<2>},
                                                     {"capitalize", cased<3>},
                                                     {"string", to_text},
                                                     {"safe", to_text},
                                                     {"list", to_list},
                                                     {"items", items},
                                                     {"int", to_integer},
                                                     {"reverse", reverse},
                                                     {"replace", replace},
                                                     {"abs", absolute},
                                                     {"indent", indent},
                                                     {"map", map},
                                                     {"select", select<false, true>},
                                                     {"reject", select<false, false>},
                                                     {"selectattr", select<true, true>},
                                                     {"rejectattr", select<true, false>},
                                                     {"unique", unique}};

bool is_odd(const Value& value) { return binary("%", value, Value(std::int64_t{2})) == Value(std::int64_t{1}); }

template <int kSymbol>
bool compared(const Value& value, const Arguments& a) {
  constexpr std::array kSymbols = {"==", "!=", "<", ">", "<=", ">=", "in"};
  return binary(kSymbols[kSymbol], value, argument(a, 0, "other")).truth();
}

const std::map<std::string_view, Test> kTests = {
    {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
    {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
    {"none", [](const Value& v, const Arguments&) { return v.is_none(); }},
    {"string", [](const Value& v, const Arguments&) { return v.is_string(); }},
    {"number", [](const Value& v, const Arguments&) { return v.is_number(); }},
    {"integer", [](const Value& v, const Arguments&) { return v.is<std::int64_t>(); }},
    {"float", [](const Value& v, const Arguments&) { return v.is<double>(); }},
    {"boolean", [](const Value& v, const Arguments&) { return v.is<bool>(); }},
    {"true", [](const Value& v, const Arguments&) { return v.is<bool>() && v.as<bool>(); }},
    {"false", [](const Value& v, const Arguments&) { return v.is<bool>() && !v.as<bool>(); }},
    {"mapping", [](const Value& v, const Arguments&) { return v.is_dictionary(); }},
    {"sequence", [](const Value& v, const Arguments&) { return v.is_string() || v.is_list() || v.is_dictionary(); }},
    {"iterable",
     [](const Value& v, const Arguments&) { return v.is_string() || v.is_list() || v.is_dictionary() || v.is_undefined(); }},
    {"callable", [](const Value& v, const Arguments&) { return v.is_function(); }},
    {"odd", [](const Value& v, const Arguments&) { return is_odd(v); }},
    {"even", [](const Value& v, const Arguments&) { return !is_odd(v); }},
    {"divisibleby",
     [](const Value& v, const Arguments& a) { return binary("%", v, argument(a, 0, "num")) == Value(std::int64_t{0}); }},
    {"equalto", compared<0>},
    {"eq", compared<0>},
    {"ne", compared<1>},
    {"lt", compared<2>},
    {"lessthan", compared<2>},
    {"gt", compared<3>},
    {"greaterthan", compared<3>},
    {"le", compared<4>},
    {"ge", compared<5>},
    {"in", compared<6>}};

}  // namespace

bool is_filter(std::string_view name) { return kFilters.contains(name); }
Value filter(const std::string& name, const Value& value, const Arguments& arguments) {
  return kFilters.at(name)(value, arguments);
}
bool is_test(std::string_view name) { return kTests.contains(name); }
bool test(const std::string& name, const Value& value, const Arguments& arguments) {
  return kTests.at(name)(value, arguments);
}

}  // namespace muonp::core::jinja
