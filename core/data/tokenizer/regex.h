// The regular expressions of tokenizer.json, which are written for Oniguruma in Ruby's syntax, run by PCRE2 (UTF, UCP, JIT).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace muonp::core {

struct TextRange {
  std::size_t begin = 0, end = 0;
};

// What one thread needs to match; any Regex may use it, one at a time.
class RegexWork {
 public:
  RegexWork();
  ~RegexWork();
  RegexWork(const RegexWork&) = delete;
  RegexWork& operator=(const RegexWork&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

class Regex {
 public:
  // `where` begins messages ("tokenizer.json: pre_tokenizer.pattern"). Error: it is no pattern, or one whose meaning differs
  // between the two libraries in a way that is not translated, which is quoted.
  Regex(const std::string& pattern, const std::string& where);
  static Regex literal(std::string_view text);

  // The first match that begins at `from` or later and is not empty; begin == end == text.size() if there is none. The text
  // is valid UTF-8. Error: the library gives up (the text and why).
  TextRange find(std::string_view text, std::size_t from, RegexWork& work) const;
  const std::string& pattern() const { return pattern_; }

 private:
  Regex(const std::string& pattern, const std::string& translated, const std::string& where);
  struct Code;
  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

// In PCRE2's syntax.
std::string translate_pattern(const std::string& pattern, const std::string& where);

}  // namespace muonp::core
