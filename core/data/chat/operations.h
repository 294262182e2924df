// What Jinja does with values: operators, members, methods, filters and tests. All throw core::Error without a place, which
// the evaluator adds.
#pragma once

#include <string>
#include <string_view>

#include "core/data/chat/value.h"

namespace muonp::core::jinja {

// + - * / // % ~ == != < > <= >= in "not in"; `and` and `or` are the evaluator's, who may leave out the right side.
Value binary(std::string_view symbol, const Value& a, const Value& b);
Value negative(const Value& value);

Value attribute(const Value& value, const std::string& name);  // value.name
Value item(const Value& value, const Value& index);            // value[index]
// Python's slice; None where a bound is left out.
Value slice(const Value& value, const Value& begin, const Value& end, const Value& step);
// What a loop goes through: elements, keys, characters; nothing for what is undefined.
List elements_of(const Value& value);
std::int64_t length_of(const Value& value);

// Whether there is a method of that name for the value's type.
bool has_method(const Value& value, std::string_view name);
Value call_method(const Value& value, const std::string& name, const Arguments& arguments);
bool is_filter(std::string_view name);
Value filter(const std::string& name, const Value& value, const Arguments& arguments);
bool is_test(std::string_view name);
bool test(const std::string& name, const Value& value, const Arguments& arguments);

// The argument at a position, or by its name; `otherwise` where there is neither.
Value argument(const Arguments& arguments, std::size_t position, std::string_view name, Value otherwise = {});
const std::string& require_text(const Value& value, std::string_view what);
std::int64_t require_integer(const Value& value, std::string_view what);

std::string trimmed(std::string_view text, const Value& characters, bool left, bool right);
std::string replaced(std::string_view text, std::string_view from, std::string_view to, std::int64_t most = -1);
std::string in_case(std::string_view text, std::string_view which);  // upper, lower, capitalize, title

}  // namespace muonp::core::jinja
