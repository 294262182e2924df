// Expressions, by Jinja's precedence: or, and, not, comparisons, + -, ~, * / // %, unary signs, **; what follows a value
// (members, calls, filters, tests) binds closest.
#include <algorithm>
#include <array>
#include <initializer_list>

#include "core/data/chat/operations.h"
#include "core/data/chat/token_reader.h"

namespace muonp::core::jinja {
namespace {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenReader& tokens) : tokens_(tokens) {}

  ExpressionPtr conditional() {
    const TokenReader::Deeper level(tokens_);
    ExpressionPtr value = alternative();
    while (tokens_.at_name("if")) {
      ExpressionPtr node = make(ExpressionKind::conditional);
      tokens_.take();
      ExpressionPtr condition = alternative();
      ExpressionPtr otherwise = tokens_.take_name("else") ? conditional() : nullptr;
      add(node, std::move(value), std::move(condition), std::move(otherwise));
      value = std::move(node);
    }
    return value;
  }

  ExpressionPtr alternative() {
    return chain([&] { return chain([&] { return negation(); }, {"and"}); }, {"or"});
  }

 private:
  ExpressionPtr make(ExpressionKind kind, std::string text = "") const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->source = tokens_.source();
    node->text = std::move(text);
    return node;
  }
  template <class... Parts>
  static void add(const ExpressionPtr& node, Parts... parts) {
    (node->parts.push_back(std::move(parts)), ...);
  }

  // Operators of one precedence, from left to right. They are symbols or names.
  template <class Operand>
  ExpressionPtr chain(const Operand& operand, std::initializer_list<const char*> operators) {
    ExpressionPtr left = operand();
    while (std::ranges::any_of(operators, [&](const char* o) { return tokens_.at_symbol(o) || tokens_.at_name(o); })) {
      ExpressionPtr node = make(ExpressionKind::binary, tokens_.peek().text);
      tokens_.take();
      ExpressionPtr right = operand();
      add(node, std::move(left), std::move(right));
      left = std::move(node);
    }
    return left;
  }

  ExpressionPtr negation() {
    if (!tokens_.at_name("not")) return comparison();
    const TokenReader::Deeper level(tokens_);
    ExpressionPtr node = make(ExpressionKind::unary, "not");
    tokens_.take();
    add(node, negation());
    return node;
  }

  std::string comparator() {
    constexpr std::array kSymbols = {"==", "!=", "<=", ">=", "<", ">"};
    for (const char* symbol : kSymbols)
      if (tokens_.take_symbol(symbol)) return symbol;
    if (tokens_.take_name("in")) return "in";
    if (!tokens_.take_name("not")) return "";
    if (!tokens_.take_name("in")) tokens_.refuse("'in' is missing after 'not'");
    return "not in";
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    ExpressionPtr node = make(ExpressionKind::binary);
    node->text = comparator();
    if (node->text.empty()) return left;
    add(node, std::move(left), sum());
    if (!comparator().empty()) tokens_.refuse("a chain of comparisons is not supported");
    return node;
  }

  ExpressionPtr sum() {
    const auto product = [&] { return chain([&] { return sign(true); }, {"*", "/", "//", "%"}); };
    return chain([&] { return chain(product, {"~"}); }, {"+", "-"});
  }

  ExpressionPtr sign(bool with_filters) {
    ExpressionPtr node;
    if (tokens_.at_symbol("-") || tokens_.at_symbol("+")) {
      const TokenReader::Deeper level(tokens_);
      node = make(ExpressionKind::unary, tokens_.peek().text);
      tokens_.take();
      add(node, sign(false));
    } else {
      node = members(primary());
      if (tokens_.at_symbol("**")) tokens_.refuse("'**' is not supported");
    }
    return with_filters ? filters(std::move(node)) : std::move(node);
  }

  ExpressionPtr literal(Value value) {
    ExpressionPtr node = make(ExpressionKind::literal);
    node->value = std::move(value);
    tokens_.take();
    return node;
  }

  ExpressionPtr primary() {
    const Token& token = tokens_.peek();
    if (token.kind == TokenKind::integer) return literal(Value(std::int64_t{std::stoll(token.text)}));
    if (token.kind == TokenKind::real) return literal(Value(std::stod(token.text)));
    if (token.kind == TokenKind::string) return strings();
    if (token.kind == TokenKind::name) return name();
    if (tokens_.at_symbol("[")) return list();
    if (tokens_.at_symbol("{")) return dictionary();
    if (!tokens_.take_symbol("(")) tokens_.refuse("a value is missing before '" + token.text + "'");
    ExpressionPtr inner = parse_tuple(tokens_);
    tokens_.require_symbol(")");
    return inner;
  }

  // Those beside each other are one.
  ExpressionPtr strings() {
    ExpressionPtr node = make(ExpressionKind::literal);
    std::string text;
    while (tokens_.peek().kind == TokenKind::string) text += tokens_.take().text;
    node->value = Value(std::move(text));
    return node;
  }

  ExpressionPtr name() {
    const std::string& text = tokens_.peek().text;
    if (text == "true" || text == "True") return literal(Value(true));
    if (text == "false" || text == "False") return literal(Value(false));
    if (text == "none" || text == "None") return literal(Value());
    ExpressionPtr node = make(ExpressionKind::name, text);
    tokens_.take();
    return node;
  }

  ExpressionPtr list() {
    ExpressionPtr node = make(ExpressionKind::list);
    tokens_.require_symbol("[");
    while (!tokens_.take_symbol("]")) {
      add(node, conditional());
      if (!tokens_.at_symbol("]")) tokens_.require_symbol(",");
    }
    return node;
  }

  ExpressionPtr dictionary() {
    ExpressionPtr node = make(ExpressionKind::dictionary);
    tokens_.require_symbol("{");
    while (!tokens_.take_symbol("}")) {
      add(node, conditional());
      tokens_.require_symbol(":");
      add(node, conditional());
      if (!tokens_.at_symbol("}")) tokens_.require_symbol(",");
    }
    return node;
  }

  ExpressionPtr members(ExpressionPtr value) {
    while (tokens_.at_symbol(".") || tokens_.at_symbol("[") || tokens_.at_symbol("(")) {
      ExpressionPtr node = make(ExpressionKind::attribute);
      if (tokens_.take_symbol(".")) {
        node->text = tokens_.require_name();
        add(node, std::move(value));
      } else if (tokens_.take_symbol("[")) {
        add(node, std::move(value));
        subscript(*node);
      } else {
        node->kind = ExpressionKind::call;
        add(node, std::move(value));
        arguments(*node);
      }
      value = std::move(node);
    }
    return value;
  }

  void subscript(Expression& node) {
    node.kind = ExpressionKind::item;
    const auto part = [&] { return tokens_.at_symbol(":") || tokens_.at_symbol("]") ? nullptr : conditional(); };
    node.parts.push_back(part());
    if (!node.parts.back() && !tokens_.at_symbol(":")) tokens_.refuse("an index is missing");
    while (tokens_.take_symbol(":")) {
      node.kind = ExpressionKind::slice;
      node.parts.push_back(part());
    }
    if (node.kind == ExpressionKind::slice) node.parts.resize(4);
    tokens_.require_symbol("]");
  }

  void arguments(Expression& node) {
    tokens_.require_symbol("(");
    while (!tokens_.take_symbol(")")) {
      if (tokens_.at_symbol("*")) tokens_.refuse("'*' before an argument is not supported");
      if (tokens_.peek().kind == TokenKind::name && tokens_.then_symbol("=")) {
        std::string name = tokens_.require_name();
        tokens_.take();
        node.named.emplace_back(std::move(name), conditional());
      } else {
        node.arguments.push_back(conditional());
      }
      if (!tokens_.at_symbol(")")) tokens_.require_symbol(",");
    }
  }

  ExpressionPtr filters(ExpressionPtr value) {
    while (tokens_.at_symbol("|") || tokens_.at_name("is")) {
      if (tokens_.at_name("is")) {
        value = test(std::move(value));
        continue;
      }
      tokens_.require_symbol("|");
      if (!is_filter(tokens_.peek().text)) refuse("filter");
      ExpressionPtr node = make(ExpressionKind::filter, tokens_.require_name());
      add(node, std::move(value));
      if (tokens_.at_symbol("(")) arguments(*node);
      value = std::move(node);
    }
    return value;
  }

  [[noreturn]] void refuse(const std::string& kind) const {
    tokens_.refuse("the " + kind + " '" + tokens_.peek().text + "' is not supported");
  }

  ExpressionPtr test(ExpressionPtr value) {
    tokens_.take();
    ExpressionPtr negated = tokens_.at_name("not") ? make(ExpressionKind::unary, "not") : nullptr;
    if (negated) tokens_.take();
    if (!is_test(tokens_.peek().text)) refuse("test");
    ExpressionPtr node = make(ExpressionKind::test, tokens_.require_name());
    add(node, std::move(value));
    if (tokens_.at_symbol("("))
      arguments(*node);
    else if (starts_argument())
      node->arguments.push_back(members(primary()));
    if (!negated) return node;
    add(negated, std::move(node));
    return negated;
  }

  bool starts_argument() const {
    const Token& token = tokens_.peek();
    if (token.kind == TokenKind::name)
      return token.text != "else" && token.text != "or" && token.text != "and" && token.text != "is" && token.text != "if" &&
             token.text != "in" && token.text != "not";
    return token.kind == TokenKind::string || token.kind == TokenKind::integer || token.kind == TokenKind::real ||
           tokens_.at_symbol("[") || tokens_.at_symbol("{");
  }

  TokenReader& tokens_;
};

}  // namespace

ExpressionPtr parse_expression(TokenReader& tokens, bool conditional) {
  ExpressionParser parser(tokens);
  return conditional ? parser.conditional() : parser.alternative();
}

ExpressionPtr parse_tuple(TokenReader& tokens) {
  const Source source = tokens.source();
  ExpressionPtr first = parse_expression(tokens);
  if (!tokens.at_symbol(",")) return first;
  auto tuple = std::make_unique<Expression>();
  tuple->kind = ExpressionKind::list;
  tuple->source = source;
  tuple->parts.push_back(std::move(first));
  while (tokens.take_symbol(",") && !tokens.at_symbol(")")) tuple->parts.push_back(parse_expression(tokens));
  return tuple;
}

}  // namespace muonp::core::jinja
