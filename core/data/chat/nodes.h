// The tree of a parsed template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data/chat/value.h"

namespace muonp::core::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;  // may be null where a part is left out
using Block = std::vector<Statement>;

struct Source {
  int line = 0;
  std::string_view tag;
};

enum class ExpressionKind {
  literal,      // value
  name,         // text
  list,         // parts
  dictionary,   // parts: name, value, name, value, ...
  attribute,    // parts[0].text
  item,         // parts[0][parts[1]]
  slice,        // parts[0][parts[1] : parts[2] : parts[3]]
  call,         // parts[0](arguments)
  filter,       // parts[0] | text(arguments)
  test,         // parts[0] is text(arguments)
  unary,        // text parts[0]; text: not, -, +
  binary,       // parts[0] text parts[1]
  conditional,  // parts[0] if parts[1] else parts[2]
};

struct Expression {
  ExpressionKind kind = ExpressionKind::literal;
  Source source = {};
  std::string text = {};
  Value value = {};
  std::vector<ExpressionPtr> parts = {};
  std::vector<ExpressionPtr> arguments = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
};

enum class StatementKind {
  text,        // text
  print,       // expression
  condition,   // expression, body, otherwise (an elif is a condition in it)
  loop,        // names in expression if filter; body; otherwise where there was nothing
  assign,      // names = expression; of one name with a member: name.text
  capture,     // names[0] = what body prints
  macro,       // text(names = arguments): body
  generation,  // body, whose place in the result is kept
  leave,       // break
  next,        // continue
};

struct Statement {
  StatementKind kind = StatementKind::text;
  Source source = {};
  std::string text = {};
  std::vector<std::string> names = {};
  ExpressionPtr expression = {}, filter = {};
  std::vector<ExpressionPtr> defaults = {};  // of a macro's names; null: none
  Block body = {}, otherwise = {};
};

// Error, by fail_at(): what is not supported, or no template.
Block parse_template(std::string_view source, const std::string& name);

}  // namespace muonp::core::jinja
