#include <utility>

#include "core/base/error.h"
#include "core/data/chat/token_reader.h"

namespace muonp::core::jinja {
namespace {

class StatementParser {
 public:
  StatementParser(std::string_view source, const std::string& name) : tokens_(tokens_of(source, name), name) {}

  Block whole() {
    Block block = statements();
    if (tokens_.peek().kind != TokenKind::end) tokens_.refuse(fmt::format("'{}' ends nothing", tokens_.peek().text));
    return block;
  }

 private:
  // Up to a tag that ends or divides what encloses it, whose name is then the next token.
  Block statements() {
    const TokenReader::Deeper level(tokens_);
    Block block;
    for (; tokens_.peek().kind != TokenKind::end; block.push_back(statement())) {
      if (tokens_.peek().kind != TokenKind::block_begin) continue;
      tokens_.take();
      const std::string& name = tokens_.peek().text;
      if (name.starts_with("end") || name == "elif" || name == "else") break;
      in_tag_ = true;
    }
    return block;
  }

  Statement statement() {
    Statement s;
    s.source = tokens_.source();
    if (std::exchange(in_tag_, false)) {
      tag(s);
    } else if (tokens_.peek().kind == TokenKind::text) {
      s.text = tokens_.take().text;
    } else {
      tokens_.take();
      s.kind = StatementKind::print;
      s.expression = parse_tuple(tokens_);
      if (tokens_.peek().kind != TokenKind::print_end)
        tokens_.refuse(fmt::format("'{}' is not expected", tokens_.peek().text));
      tokens_.take();
    }
    return s;
  }

  void tag(Statement& s) {
    const std::string name = tokens_.require_name();
    if (name == "if") return condition(s);
    if (name == "for") return loop(s);
    if (name == "set") return assign(s);
    if (name == "macro") return macro(s);
    if (name == "generation") return body_of(s, StatementKind::generation, "endgeneration");
    if (name == "break" || name == "continue") {
      s.kind = name == "break" ? StatementKind::leave : StatementKind::next;
      if (loops_ == 0) tokens_.refuse(fmt::format("'{}' outside of a loop", name));
      return end_tag();
    }
    fail_at_tag(s, name);
  }

  [[noreturn]] void fail_at_tag(const Statement& s, const std::string& name) const {
    tokens_.refuse(
        fmt::format("the tag '{}' is not supported (line {}); supported are for, if, set, macro, generation, break, "
                    "continue",
                    name, s.source.line));
  }

  void end_tag() {
    if (tokens_.peek().kind != TokenKind::block_end)
      tokens_.refuse(fmt::format("'{}' is not expected", tokens_.peek().text));
    tokens_.take();
  }

  void close(const Statement& s, const char* name) {
    if (!tokens_.take_name(name)) {
      const std::string found =
          tokens_.peek().kind == TokenKind::end ? "the template's end" : "'" + tokens_.peek().text + "'";
      tokens_.refuse(fmt::format("'{}' of line {} is missing before {}", name, s.source.line, found));
    }
    if (tokens_.peek().kind == TokenKind::name) tokens_.take();  // the name of what ends, again
    end_tag();
  }

  void body_of(Statement& s, StatementKind kind, const char* end) {
    s.kind = kind;
    end_tag();
    s.body = statements();
    close(s, end);
  }

  void condition(Statement& s) {
    s.kind = StatementKind::condition;
    s.expression = parse_tuple(tokens_);
    end_tag();
    s.body = statements();
    if (tokens_.at_name("elif")) {
      Statement next;
      next.source = tokens_.source();
      tokens_.take();
      condition(next);  // it reads the endif of all
      s.otherwise.push_back(std::move(next));
      return;
    }
    if (tokens_.take_name("else")) {
      end_tag();
      s.otherwise = statements();
    }
    close(s, "endif");
  }

  std::vector<std::string> names() {
    const bool bracket = tokens_.take_symbol("(");
    std::vector<std::string> all{tokens_.require_name()};
    while (tokens_.take_symbol(",")) all.push_back(tokens_.require_name());
    if (bracket) tokens_.require_symbol(")");
    return all;
  }

  void loop(Statement& s) {
    s.kind = StatementKind::loop;
    s.names = names();
    if (!tokens_.take_name("in")) tokens_.refuse("'in' is missing in a for");
    s.expression = parse_expression(tokens_, false);
    if (tokens_.take_name("if")) s.filter = parse_expression(tokens_);
    if (tokens_.at_name("recursive")) tokens_.refuse("'recursive' is not supported");
    end_tag();
    ++loops_;
    s.body = statements();
    --loops_;
    if (tokens_.take_name("else")) {
      end_tag();
      s.otherwise = statements();
    }
    close(s, "endfor");
  }

  void assign(Statement& s) {
    s.kind = StatementKind::assign;
    s.names = names();
    if (tokens_.take_symbol(".")) s.text = tokens_.require_name();
    if (tokens_.take_symbol("=")) {
      s.expression = parse_tuple(tokens_);
      return end_tag();
    }
    if (s.names.size() != 1 || !s.text.empty() || tokens_.peek().kind != TokenKind::block_end)
      tokens_.refuse(fmt::format("'{}' in a set is not supported", tokens_.peek().text));
    body_of(s, StatementKind::capture, "endset");
  }

  void macro(Statement& s) {
    s.text = tokens_.require_name();
    tokens_.require_symbol("(");
    while (!tokens_.take_symbol(")")) {
      s.names.push_back(tokens_.require_name());
      s.defaults.push_back(tokens_.take_symbol("=") ? parse_expression(tokens_) : nullptr);
      if (!tokens_.at_symbol(")")) tokens_.require_symbol(",");
    }
    const int outside = std::exchange(loops_, 0);
    body_of(s, StatementKind::macro, "endmacro");
    loops_ = outside;
  }

  TokenReader tokens_;
  bool in_tag_ = false;
  int loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source, const std::string& name) { return StatementParser(source, name).whole(); }

}  // namespace muonp::core::jinja
