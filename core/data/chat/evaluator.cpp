#include "core/data/chat/evaluator.h"

#include <algorithm>
#include <memory>

#include "core/base/error.h"
#include "core/base/index.h"
#include "core/data/chat/globals.h"
#include "core/data/chat/lexer.h"
#include "core/data/chat/operations.h"
#include "core/data/chat/scope.h"

namespace muonp::core::jinja {
namespace {

constexpr int kDeepestCall = 50;                          // macros in macros
constexpr int kDeepestValue = 200;                        // lists in lists that a namespace keeps
constexpr std::size_t kMostBytes = std::size_t{1} << 28;  // of a rendered text

// An error that has its place already.
class PlacedError : public Error {
 public:
  using Error::Error;
};

enum class Flow { on, leave, next };

// A namespace within itself would never be freed, and what is nested without end cannot be printed.
void require_storable(const Value& value, int levels = kDeepestValue) {
  if (levels == 0) fail("lists and dictionaries within each other more than {} deep", kDeepestValue);
  if (value.is_list())
    for (const Value& part : value.list()) require_storable(part, levels - 1);
  if (!value.is_dictionary()) return;
  if (value.dictionary().is_namespace) fail("a namespace cannot be kept in a namespace");
  for (const auto& [name, member] : value.dictionary().members) require_storable(member, levels - 1);
}

class Evaluator {
 public:
  Evaluator(const std::string& name, const NamedValues& variables) : name_(name) {
    for (const auto& [global, value] : globals()) root_.set(global, value);
    for (const auto& [variable, value] : variables) root_.set(variable, value);
  }

  RenderedChat run(const Block& block) {
    RenderedChat result;
    spans_ = &result.generations;
    top_ = &result.text;
    execute(block, root_, result.text);
    return result;
  }

 private:
  template <class F>
  auto placed(const Source& source, const F& f) const {
    try {
      return f();
    } catch (const PlacedError&) {
      throw;
    } catch (const Error& error) {
      place(source, error.what());
    }
  }
  [[noreturn]] void place(const Source& source, const std::string& what) const {
    try {
      fail_at(name_, source.line, source.tag, what);
    } catch (const Error& error) {
      throw PlacedError(error.what());
    }
  }

  Flow execute(const Block& block, Scope& scope, std::string& out) {
    for (const Statement& s : block) {
      const Flow flow = placed(s.source, [&] { return execute(s, scope, out); });
      if (flow != Flow::on) return flow;
      if (out.size() > kMostBytes) place(s.source, "the text grows beyond 256 MiB");
    }
    return Flow::on;
  }

  Flow execute(const Statement& s, Scope& scope, std::string& out) {
    switch (s.kind) {
      case StatementKind::text:
        out += s.text;
        break;
      case StatementKind::print:
        out += evaluate(*s.expression, scope).printed();
        break;
      case StatementKind::condition:
        return execute(evaluate(*s.expression, scope).truth() ? s.body : s.otherwise, scope, out);
      case StatementKind::loop:
        return loop(s, scope, out);
      case StatementKind::assign:
        assign(s, scope);
        break;
      case StatementKind::capture:
        capture(s, scope);
        break;
      case StatementKind::macro:
        scope.set(s.text, macro(s));
        break;
      case StatementKind::generation:
        return generation(s, scope, out);
      case StatementKind::leave:
        return Flow::leave;
      case StatementKind::next:
        return Flow::next;
    }
    return Flow::on;
  }

  void capture(const Statement& s, Scope& scope) {
    std::string text;
    Scope inner(&scope);
    execute(s.body, inner, text);
    scope.set(s.names[0], Value(std::move(text)));
  }

  // Kept only where it is printed to the result itself, and not into a variable.
  Flow generation(const Statement& s, Scope& scope, std::string& out) {
    const std::size_t begin = out.size();
    const Flow flow = execute(s.body, scope, out);
    if (&out == top_) spans_->push_back({begin, out.size()});
    return flow;
  }

  void assign(const Statement& s, Scope& scope) {
    const Value value = evaluate(*s.expression, scope);
    if (s.text.empty()) return bind(s.names, value, scope);
    const Value* target = scope.find(s.names[0]);
    if (!target || !target->is_dictionary() || !target->dictionary().is_namespace)
      fail("'{}' is no namespace, whose members alone can be set", s.names[0]);
    require_storable(value);
    NamedValues& members = target->dictionary().members;
    const auto found = std::ranges::find(members, s.text, &std::pair<std::string, Value>::first);
    if (found == members.end())
      members.emplace_back(s.text, value);
    else
      found->second = value;
  }

  static void bind(const std::vector<std::string>& names, const Value& value, Scope& scope) {
    if (names.size() == 1) return scope.set(names[0], value);
    const List parts = elements_of(value);
    if (parts.size() != names.size()) fail("{} values for {} names", parts.size(), names.size());
    for (std::size_t i = 0; i < names.size(); ++i) scope.set(names[i], parts[i]);
  }

  static Value loop_state(const List& all, std::size_t i) {
    const auto index = static_cast<std::int64_t>(i), count = std::ssize(all);
    Dictionary state;
    state.members = {{"index0", Value(index)},
                     {"index", Value(index + 1)},
                     {"revindex0", Value(count - 1 - index)},
                     {"revindex", Value(count - index)},
                     {"first", Value(i == 0)},
                     {"last", Value(index + 1 == count)},
                     {"length", Value(count)},
                     {"previtem", i == 0 ? Value::undefined("loop.previtem") : all[i - 1]},
                     {"nextitem", index + 1 == count ? Value::undefined("loop.nextitem") : all[i + 1]}};
    return Value(std::move(state));
  }

  List filtered(const Statement& s, const Scope& scope) {
    List all = elements_of(evaluate(*s.expression, scope));
    if (!s.filter) return all;
    std::erase_if(all, [&](const Value& value) {
      Scope inner(&scope);
      bind(s.names, value, inner);
      return !evaluate(*s.filter, inner).truth();
    });
    return all;
  }

  Flow loop(const Statement& s, Scope& scope, std::string& out) {
    const List all = filtered(s, scope);
    if (all.empty()) {
      Scope inner(&scope);
      return execute(s.otherwise, inner, out);
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      Scope inner(&scope);
      inner.set("loop", loop_state(all, i));
      bind(s.names, all[i], inner);
      if (execute(s.body, inner, out) == Flow::leave) break;
    }
    return Flow::on;
  }

  // A macro sees the template's own names and its arguments.
  Value macro(const Statement& s) {
    return Value(Function([this, &s](const Arguments& a) {
      if (a.positional.size() > s.names.size())
        fail("{} arguments for the macro {}, which has {}", a.positional.size(), s.text, s.names.size());
      for (const auto& [name, value] : a.named)
        if (std::ranges::find(s.names, name) == s.names.end()) fail("the macro {} has no argument '{}'", s.text, name);
      if (++calls_ > kDeepestCall) fail("macros call each other more than {} deep", kDeepestCall);
      Scope inner(&root_);
      for (std::size_t i = 0; i < s.names.size(); ++i) {
        const Value missing = s.defaults[i] ? evaluate(*s.defaults[i], inner) : Value::undefined(s.names[i]);
        inner.set(s.names[i], argument(a, i, s.names[i], missing));
      }
      std::string text;
      execute(s.body, inner, text);
      --calls_;
      return Value(std::move(text));
    }));
  }

  Value evaluate(const Expression& e, const Scope& scope) {
    return placed(e.source, [&] { return value_of(e, scope); });
  }

  Value part(const Expression& e, std::size_t i, const Scope& scope) {
    return e.parts[i] ? evaluate(*e.parts[i], scope) : Value();
  }

  Arguments arguments(const Expression& e, const Scope& scope) {
    Arguments all;
    for (const ExpressionPtr& argument : e.arguments) all.positional.push_back(evaluate(*argument, scope));
    for (const auto& [name, argument] : e.named) all.named.emplace_back(name, evaluate(*argument, scope));
    return all;
  }

  Value value_of(const Expression& e, const Scope& scope) {
    switch (e.kind) {
      case ExpressionKind::literal:
        return e.value;
      case ExpressionKind::name: {
        const Value* value = scope.find(e.text);
        return value ? *value : Value::undefined(e.text);
      }
      case ExpressionKind::list:
        return list(e, scope);
      case ExpressionKind::dictionary:
        return dictionary(e, scope);
      case ExpressionKind::attribute:
        return attribute(part(e, 0, scope), e.text);
      case ExpressionKind::item:
        return item(part(e, 0, scope), part(e, 1, scope));
      case ExpressionKind::slice:
        return slice(part(e, 0, scope), part(e, 1, scope), part(e, 2, scope), part(e, 3, scope));
      case ExpressionKind::call:
        return call(e, scope);
      case ExpressionKind::filter:
        return filter(e.text, part(e, 0, scope), arguments(e, scope));
      case ExpressionKind::test:
        return Value(test(e.text, part(e, 0, scope), arguments(e, scope)));
      case ExpressionKind::unary:
        return unary(e, part(e, 0, scope));
      case ExpressionKind::binary:
        return binary_of(e, scope);
      case ExpressionKind::conditional:
        if (!part(e, 1, scope).truth()) return e.parts[2] ? part(e, 2, scope) : Value::undefined("the else of an if");
        return part(e, 0, scope);
    }
    return {};
  }

  Value list(const Expression& e, const Scope& scope) {
    List all;
    for (std::size_t i = 0; i < e.parts.size(); ++i) all.push_back(part(e, i, scope));
    return Value(std::move(all));
  }

  Value dictionary(const Expression& e, const Scope& scope) {
    Dictionary all;
    for (std::size_t i = 0; i < e.parts.size(); i += 2)
      all.members.emplace_back(require_text(part(e, i, scope), "the name in a dictionary"), part(e, i + 1, scope));
    return Value(std::move(all));
  }

  Value call(const Expression& e, const Scope& scope) {
    const Value function = part(e, 0, scope);
    const std::string& name = e.parts[0]->text;
    if (!function.is_function()) fail("'{}' is no function or method that is supported", name);
    return (*function.as<std::shared_ptr<Function>>())(arguments(e, scope));
  }

  static Value unary(const Expression& e, const Value& value) {
    if (e.text == "not") return Value(!value.truth());
    return e.text == "-" ? negative(value) : value;
  }

  Value binary_of(const Expression& e, const Scope& scope) {
    Value left = part(e, 0, scope);
    if (e.text == "and") return left.truth() ? part(e, 1, scope) : left;
    if (e.text == "or") return left.truth() ? left : part(e, 1, scope);
    return binary(e.text, left, part(e, 1, scope));
  }

  const std::string& name_;
  Scope root_;
  std::vector<TextSpan>* spans_ = nullptr;
  const std::string* top_ = nullptr;
  int calls_ = 0;
};

}  // namespace

RenderedChat evaluate(const Block& block, const std::string& name, const NamedValues& variables) {
  return Evaluator(name, variables).run(block);
}

}  // namespace muonp::core::jinja
