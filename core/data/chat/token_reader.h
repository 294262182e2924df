// The tokens of a template, one after the other.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data/chat/lexer.h"
#include "core/data/chat/nodes.h"

namespace muonp::core::jinja {

class TokenReader {
 public:
  TokenReader(std::vector<Token> tokens, const std::string& name) : tokens_(std::move(tokens)), name_(name) {}

  const Token& peek() const { return tokens_[next_]; }
  const Token& take() { return tokens_[next_ + 1 < tokens_.size() ? next_++ : next_]; }
  Source source() const { return {peek().line, peek().tag}; }
  bool at(TokenKind kind, std::string_view text) const { return peek().kind == kind && peek().text == text; }
  bool at_symbol(std::string_view text) const { return at(TokenKind::symbol, text); }
  bool at_name(std::string_view text) const { return at(TokenKind::name, text); }
  bool take_symbol(std::string_view text) { return at_symbol(text) && (take(), true); }
  bool take_name(std::string_view text) { return at_name(text) && (take(), true); }
  // Whether the token after the next one is this symbol.
  bool then_symbol(std::string_view text) const {
    return next_ + 1 < tokens_.size() && tokens_[next_ + 1].kind == TokenKind::symbol && tokens_[next_ + 1].text == text;
  }
  void require_symbol(std::string_view text) {
    if (!take_symbol(text)) refuse("'" + std::string(text) + "' is missing before '" + peek().text + "'");
  }
  std::string require_name() {
    if (peek().kind != TokenKind::name) refuse("a name is missing before '" + peek().text + "'");
    return take().text;
  }
  // Levels of brackets, signs and blocks around the next token: each takes some of the stack of who reads it.
  class Deeper {
   public:
    explicit Deeper(TokenReader& tokens) : tokens_(tokens) {
      if (++tokens_.depth_ > kDeepest) tokens_.refuse("what is nested so deep is not supported");
    }
    ~Deeper() { --tokens_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    static constexpr int kDeepest = 200;
    TokenReader& tokens_;
  };
  [[noreturn]] void refuse(const std::string& what) const { fail_at(name_, peek().line, peek().tag, what); }

 private:
  std::vector<Token> tokens_;
  std::size_t next_ = 0;
  int depth_ = 0;
  const std::string& name_;
};

// An expression, with the conditional `a if b else c` only where `conditional`.
ExpressionPtr parse_expression(TokenReader& tokens, bool conditional = true);
// The same, where commas may make a tuple of it: `a, b`.
ExpressionPtr parse_tuple(TokenReader& tokens);

}  // namespace muonp::core::jinja
