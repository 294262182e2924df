// A template as text between tags, and tags as tokens. White space is treated as transformers sets Jinja up: trim_blocks
// (the line's end after a block goes) and lstrip_blocks (so does the space before a block that begins its line).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muonp::core::jinja {

enum class TokenKind { text, block_begin, block_end, print_begin, print_end, name, integer, real, string, symbol, end };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;  // of a string its value
  int line = 0;
  std::string_view tag;  // the source of the tag around it, for messages
};

// `source` outlives the tokens. Error, with `name` and the line: a tag or a string that does not end, a character that
// begins no token.
std::vector<Token> tokens_of(std::string_view source, const std::string& name);

// "NAME, line 3: what (in '{{ tag }}')": how every message about a template looks.
[[noreturn]] void fail_at(const std::string& name, int line, std::string_view tag, const std::string& what);

}  // namespace muonp::core::jinja
