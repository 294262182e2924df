#include "core/data/chat/lexer.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/utf8.h"
#include "core/data/tokenizer/unicode.h"

namespace muonp::core::jinja {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";
constexpr std::array<std::string_view, 6> kLongSymbols = {"==", "!=", "<=", ">=", "//", "**"};
constexpr std::string_view kSymbols = "+-*/%~<>=.,:|()[]{}";
constexpr std::string_view kDigits = "0123456789";
constexpr unsigned long kNoCharacter = 0x110000;  // beyond Unicode's last

bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : source_(source), name_(name) {
    if (source_.ends_with('\n')) source_.remove_suffix(1);  // keep_trailing_newline is off
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) text_then_tag();
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return source_.substr(at_); }
  [[noreturn]] void refuse(const std::string& what) const { fail_at(name_, line_, tag_, what); }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_, tag_}); }

  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::ranges::count(rest().substr(0, bytes), '\n'));
    at_ += bytes;
  }

  void text_then_tag() {
    const std::size_t open = next_tag();
    const std::string_view text = source_.substr(at_, open - at_);
    const std::size_t kept = kept_before(text, open);
    if (kept > 0) add(TokenKind::text, std::string(text.substr(0, kept)));
    advance(text.size());
    if (at_ < source_.size()) tag();
  }

  std::size_t next_tag() const {
    for (std::size_t open = source_.find('{', at_); open != std::string_view::npos; open = source_.find('{', open + 1))
      if (open + 1 < source_.size() && std::string_view("{%#").find(source_[open + 1]) != std::string_view::npos)
        return open;
    return source_.size();
  }

  // Bytes of the text before a tag that stay.
  std::size_t kept_before(std::string_view text, std::size_t open) const {
    if (open >= source_.size()) return text.size();
    const char mark = open + 2 < source_.size() ? source_[open + 2] : ' ';
    if (mark == '-') return text.find_last_not_of(kSpace) + 1;
    if (source_[open + 1] == '{' || mark == '+') return text.size();
    const std::size_t line = text.rfind('\n') + 1;
    const bool begins_line = line > 0 || line_starts_;
    return begins_line && text.find_first_not_of(" \t\f\v\r", line) == std::string_view::npos ? line : text.size();
  }

  void tag() {
    const char kind = rest()[1];
    if (kind == '#') return comment();
    const std::string_view close = kind == '%' ? "%}" : "}}";
    tag_ = rest().substr(0, std::min(rest().find(close), rest().size() - close.size()) + close.size());
    add(kind == '%' ? TokenKind::block_begin : TokenKind::print_begin, std::string(rest().substr(0, 2)));
    advance(2);
    if (!rest().empty() && (rest()[0] == '-' || rest()[0] == '+')) advance(1);
    int depth = 0;
    while (!ends(close, depth)) token(depth);
    add(kind == '%' ? TokenKind::block_end : TokenKind::print_end, std::string(close));
    finish(close, kind == '%');
    tag_ = {};
  }

  // At the tag's end, past white space.
  bool ends(std::string_view close, int depth) {
    advance(std::min(rest().find_first_not_of(kSpace), rest().size()));
    if (rest().empty()) refuse(fmt::format("a tag that does not end with {}", close));
    const bool marked = rest()[0] == '-' || (rest()[0] == '+' && close == "%}");
    return depth == 0 && rest().substr(marked ? 1 : 0).starts_with(close);
  }

  void finish(std::string_view close, bool trims) {
    const char mark = rest()[0];
    advance(close.size() + (mark == '-' || mark == '+' ? 1 : 0));
    after_tag(mark, trims);
  }

  void after_tag(char mark, bool trims) {
    const std::size_t before = at_;
    if (mark == '-') advance(std::min(rest().find_first_not_of(kSpace), rest().size()));
    if (mark != '-' && mark != '+' && trims && rest().starts_with('\n')) advance(1);
    line_starts_ = at_ > before && source_[at_ - 1] == '\n';
  }

  void comment() {
    const std::size_t close = rest().find("#}", 2);
    tag_ = rest().substr(0, 20);
    if (close == std::string_view::npos) refuse("a comment that does not end with #}");
    const char mark = close > 2 ? rest()[close - 1] : ' ';
    advance(close + 2);
    tag_ = {};
    after_tag(mark, true);
  }

  void token(int& depth) {
    const char c = rest()[0];
    if (c == '"' || c == '\'') return string(c);
    if (kDigits.find(c) != std::string_view::npos) return number();
    if (is_name(c)) {
      const auto end = std::ranges::find_if_not(rest(), is_name);
      const std::string name(rest().begin(), end);
      add(TokenKind::name, name);
      return advance(name.size());
    }
    const auto* two = std::ranges::find_if(kLongSymbols, [&](std::string_view s) { return rest().starts_with(s); });
    const std::string symbol(two != kLongSymbols.end() ? *two : rest().substr(0, 1));
    if (two == kLongSymbols.end() && kSymbols.find(c) == std::string_view::npos)
      refuse(fmt::format("'{}' is not supported", rest().substr(0, std::max<std::size_t>(utf8_length(rest()), 1))));
    if (std::string_view("([{").find(c) != std::string_view::npos) ++depth;
    if (std::string_view(")]}").find(c) != std::string_view::npos) --depth;
    add(TokenKind::symbol, symbol);
    advance(symbol.size());
  }

  void number() {
    std::size_t length = std::min(rest().find_first_not_of("0123456789_"), rest().size());
    const bool real =
        length + 1 < rest().size() && rest()[length] == '.' && kDigits.find(rest()[length + 1]) != std::string_view::npos;
    if (real) length = std::min(rest().find_first_not_of(kDigits, length + 1), rest().size());
    std::string digits(rest().substr(0, length));
    std::erase(digits, '_');
    if (digits.size() > 18) refuse(fmt::format("the number {} is too large", digits));
    add(real ? TokenKind::real : TokenKind::integer, digits);
    advance(length);
  }

  void string(char quote) {
    const int line = line_;
    std::string value;
    advance(1);
    while (!rest().empty() && rest()[0] != quote) {
      if (rest()[0] == '\\' && rest().size() > 1) {
        escape(value);
      } else {
        value += rest()[0];
        advance(1);
      }
    }
    if (rest().empty()) refuse("a string that does not end");
    advance(1);
    add(TokenKind::string, std::move(value));
    tokens_.back().line = line;
  }

  void escape(std::string& value) {
    constexpr std::string_view kNames = "ntrbfva0\\'\"", kValues("\n\t\r\b\f\v\a\0\\'\"", 11);
    const char name = rest()[1];
    if (const std::size_t digits = name == 'x' ? 2 : name == 'u' ? 4 : name == 'U' ? 8 : 0; digits > 0) {
      const std::string hex(rest().substr(2, digits));
      const bool whole = hex.size() == digits && hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
      const unsigned long character = whole ? std::stoul(hex, nullptr, 16) : kNoCharacter;
      if (character >= kNoCharacter || (character >= 0xd800 && character <= 0xdfff))  // halves of UTF-16's pairs
        refuse(fmt::format("'\\{}{}' is no character", name, hex));
      append_utf8(static_cast<char32_t>(character), value);
      return advance(2 + digits);
    }
    const std::size_t known = kNames.find(name);
    if (known != std::string_view::npos)
      value += kValues[known];
    else if (name != '\n')
      value += {'\\', name};
    advance(2);
  }

  std::string_view source_;
  const std::string& name_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // the last tag took a line's end with it, or nothing came before
  std::string_view tag_;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source, const std::string& name) { return Lexer(source, name).run(); }

void fail_at(const std::string& name, int line, std::string_view tag, const std::string& what) {
  constexpr std::size_t kMostQuoted = 120;
  if (tag.empty()) fail("{}, line {}: {}", name, line, what);
  fail("{}, line {}: {} (in '{}')", name, line, what,
       tag.size() <= kMostQuoted ? std::string(tag) : std::string(tag.substr(0, utf8_cut(tag, kMostQuoted))) + "…");
}

}  // namespace muonp::core::jinja
