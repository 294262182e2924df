#include "core/data/chat/operations.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::core::jinja {
namespace {

[[noreturn]] void refuse(std::string_view symbol, const Value& a, const Value& b) {
  const auto describe = [](const Value& v) {
    return v.is_undefined() ? fmt::format("'{}', which is undefined,", v.as<Undefined>().name)
                            : fmt::format("a value of type {}", v.type());
  };
  fail("'{}' cannot be done with {} and {}", symbol, describe(a), describe(b));
}

Value whole_numbers(std::string_view symbol, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (symbol == "+")
    overflow = __builtin_add_overflow(a, b, &result);
  else if (symbol == "-")
    overflow = __builtin_sub_overflow(a, b, &result);
  else if (symbol == "*")
    overflow = __builtin_mul_overflow(a, b, &result);
  else {
    if (b == 0) fail("division by zero");
    if (symbol == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) return symbol == "%" ? Value(std::int64_t{0}) : whole_numbers("-", 0, a);
    const bool down = a % b != 0 && (a < 0) != (b < 0);  // Python rounds down
    result = symbol == "//" ? a / b - down : a % b + (down ? b : 0);
  }
  if (overflow) fail("{} {} {} is too large", a, symbol, b);
  return Value(result);
}

Value numbers(std::string_view symbol, const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return whole_numbers(symbol, a.integer(), b.integer());
  const double x = a.number(), y = b.number();
  if (symbol == "+") return Value(x + y);
  if (symbol == "-") return Value(x - y);
  if (symbol == "*") return Value(x * y);
  if (y == 0) fail("division by zero");
  if (symbol == "/") return Value(x / y);
  return symbol == "//" ? Value(std::floor(x / y)) : Value(x - y * std::floor(x / y));
}

Value arithmetic(std::string_view symbol, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return numbers(symbol, a, b);
  if (symbol == "+" && a.is_string() && b.is_string()) return Value(a.text() + b.text());
  if (symbol == "+" && a.is_list() && b.is_list()) {
    List all = a.list();
    all.insert(all.end(), b.list().begin(), b.list().end());
    return Value(std::move(all));
  }
  if (symbol == "*" && a.is_string() && b.is_integer()) {
    constexpr std::int64_t kMost = 1 << 20;
    const std::int64_t times = std::max<std::int64_t>(b.integer(), 0);
    if (times > kMost || times * std::ssize(a.text()) > kMost) fail("a text repeated {} times is too long", times);
    std::string text;
    for (std::int64_t i = 0; i < times; ++i) text += a.text();
    return Value(std::move(text));
  }
  refuse(symbol, a, b);
}

bool less(std::string_view symbol, const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is_string() && b.is_string()) return a.text() < b.text();
  refuse(symbol, a, b);
}

bool contains(const Value& whole, const Value& part) {
  if (whole.is_string() && part.is_string()) return whole.text().find(part.text()) != std::string::npos;
  if (whole.is_list()) return std::ranges::find(whole.list(), part) != whole.list().end();
  if (whole.is_dictionary()) return part.is_string() && whole.dictionary().find(part.text());
  if (whole.is_undefined()) return false;
  refuse("in", part, whole);
}

Value member(const Value& value, const std::string& name) {
  const Value* found = value.is_dictionary() ? value.dictionary().find(name) : nullptr;
  return found ? *found : Value::undefined(name);
}

void require_defined(const Value& value, const std::string& member) {
  if (value.is_undefined()) fail("'{}' is undefined and has no '{}'", value.as<Undefined>().name, member);
}

}  // namespace

Value binary(std::string_view symbol, const Value& a, const Value& b) {
  if (symbol == "==") return Value(a == b);
  if (symbol == "!=") return Value(!(a == b));
  if (symbol == "~") return Value(a.printed() + b.printed());
  if (symbol == "<") return Value(less(symbol, a, b));
  if (symbol == ">") return Value(less(symbol, b, a));
  if (symbol == "<=") return Value(!less(symbol, b, a));
  if (symbol == ">=") return Value(!less(symbol, a, b));
  if (symbol == "in") return Value(contains(b, a));
  if (symbol == "not in") return Value(!contains(b, a));
  return arithmetic(symbol, a, b);
}

Value negative(const Value& value) {
  if (value.is_integer()) return whole_numbers("-", 0, value.integer());
  if (!value.is_number()) fail("a value of type {} has no negative", value.type());
  return Value(-value.number());
}

// A method comes before a member of the same name, as Jinja looks for it.
Value attribute(const Value& value, const std::string& name) {
  require_defined(value, name);
  if (has_method(value, name) && !(value.is_dictionary() && value.dictionary().is_namespace))
    return Value(Function([value, name](const Arguments& arguments) { return call_method(value, name, arguments); }));
  return member(value, name);
}

Value item(const Value& value, const Value& index) {
  if (index.is_string()) {
    require_defined(value, index.text());
    const Value found = member(value, index.text());
    return found.is_undefined() && !value.is_dictionary() ? attribute(value, index.text()) : found;
  }
  require_defined(value, index.printed());
  if ((!value.is_list() && !value.is_string()) || !index.is_integer()) return Value::undefined(index.printed());
  const std::int64_t length = length_of(value), i = index.integer() < 0 ? index.integer() + length : index.integer();
  if (i < 0 || i >= length) return Value::undefined(fmt::format("element {}", index.integer()));
  return value.is_list() ? value.list()[at(i)] : Value(std::string(characters_of(value.text())[at(i)]));
}

Value slice(const Value& value, const Value& begin, const Value& end, const Value& step) {
  const std::int64_t by = step.is_none() ? 1 : require_integer(step, "the step of a slice");
  if (by == 0) fail("the step of a slice is 0");
  if (!value.is_string() && !value.is_list()) fail("a value of type {} has no parts", value.type());
  const List all = elements_of(value);
  const std::int64_t length = std::ssize(all);
  const auto bound = [&](const Value& v, std::int64_t otherwise) {
    if (v.is_none()) return otherwise;
    const std::int64_t i = require_integer(v, "a bound of a slice");
    return std::clamp<std::int64_t>(i < 0 ? i + length : i, by > 0 ? 0 : -1, by > 0 ? length : length - 1);
  };
  const std::int64_t first = bound(begin, by > 0 ? 0 : length - 1), last = bound(end, by > 0 ? length : -1);
  List part;
  for (std::int64_t i = first; by > 0 ? i < last : i > last; i += by) {
    part.push_back(all[at(i)]);
    if (by > length || by < -length) break;
  }
  if (value.is_list()) return Value(std::move(part));
  std::string text;
  for (const Value& character : part) text += character.text();
  return Value(std::move(text));
}

List elements_of(const Value& value) {
  if (value.is_list()) return value.list();
  List elements;
  if (value.is_string())
    for (const std::string_view c : characters_of(value.text())) elements.emplace_back(std::string(c));
  else if (value.is_dictionary())
    for (const auto& [name, member] : value.dictionary().members) elements.emplace_back(std::string(name));
  else if (!value.is_undefined())
    fail("a value of type {} has no elements to go through", value.type());
  return elements;
}

std::int64_t length_of(const Value& value) {
  if (value.is_string()) return std::ssize(characters_of(value.text()));
  if (value.is_list()) return std::ssize(value.list());
  if (value.is_dictionary()) return std::ssize(value.dictionary().members);
  if (value.is_undefined()) return 0;
  fail("a value of type {} has no length", value.type());
}

Value argument(const Arguments& arguments, std::size_t position, std::string_view name, Value otherwise) {
  if (position < arguments.positional.size()) return arguments.positional[position];
  const auto found = std::ranges::find(arguments.named, name, [](const auto& a) -> std::string_view { return a.first; });
  return found == arguments.named.end() ? otherwise : found->second;
}

const std::string& require_text(const Value& value, std::string_view what) {
  if (value.is_undefined()) fail("{} is a string; '{}' is undefined", what, value.as<Undefined>().name);
  if (!value.is_string()) fail("{} is a string, not a value of type {}", what, value.type());
  return value.text();
}

std::int64_t require_integer(const Value& value, std::string_view what) {
  if (!value.is_integer()) fail("{} is an integer, not a value of type {}", what, value.type());
  return value.integer();
}

}  // namespace muonp::core::jinja
