// From Oniguruma's regular expressions to PCRE2's. Most of the two is the same; what is the same in writing but not in
// meaning is translated or refused here.
#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/data/tokenizer/regex.h"

namespace muonp::core {
namespace {

struct Translation {
  std::string_view from, outside, inside;  // of a class in brackets
};

// PCRE2's \s has U+180E, its \w has other numbers and lacks marks.
constexpr std::array kTranslations = {
    Translation{"\\s", "\\p{White_Space}", "\\p{White_Space}"},
    Translation{"\\S", "\\P{White_Space}", "\\P{White_Space}"},
    Translation{"\\w", "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
    Translation{"\\W", "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", ""},
};

// A hexadecimal digit, a word's edge by another \w, calls and names of groups, and what else is Ruby's own.
constexpr std::string_view kRefusedEscapes = "hHbBgkKyYOQEcCM";

class Translator {
 public:
  Translator(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (!rest().empty()) step();
    return result_;
  }

 private:
  std::string_view rest() const { return std::string_view(pattern_).substr(at_); }

  [[noreturn]] void refuse(std::string_view construct) const {
    fail("{}: '{}' (character {} of the pattern {}) is not supported", where_, construct, at_ + 1, pattern_);
  }

  void copy(std::size_t bytes) {
    result_ += rest().substr(0, bytes);
    at_ += bytes;
  }

  void step() {
    if (rest()[0] == '\\') return escape();
    if (in_class_) return class_character();
    if (rest()[0] == '[') {
      in_class_ = true;
      copy(rest().starts_with("[^") ? 2 : 1);
      if (rest().starts_with("]")) refuse("[]");
      return;
    }
    if (rest().starts_with("(?")) require_group();
    if (rest().starts_with("}+")) refuse("}+");  // possessive here, one or more of the whole there
    copy(1);
  }

  void class_character() {
    if (rest().starts_with("[")) refuse(rest().substr(0, 2));  // a class in a class, or [:alpha:]
    if (rest().starts_with("&&")) refuse("&&");
    in_class_ = rest()[0] != ']';
    copy(1);
  }

  // (?m) is Ruby's for "a dot matches a line's end".
  void require_group() const {
    constexpr std::array<std::string_view, 7> kSame = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    if (!std::ranges::any_of(kSame, [&](std::string_view group) { return rest().starts_with(group); }) &&
        !rest().starts_with("(?i)"))
      refuse(rest().substr(0, 4));
  }

  void escape() {
    for (const Translation& t : kTranslations) {
      if (!rest().starts_with(t.from)) continue;
      if (in_class_ && t.inside.empty()) refuse(t.from);
      result_ += in_class_ ? t.inside : t.outside;
      at_ += t.from.size();
      return;
    }
    if (rest().size() < 2 || kRefusedEscapes.find(rest()[1]) != std::string_view::npos) refuse(rest().substr(0, 2));
    if (rest()[1] == 'u') return code_point();
    const std::size_t brace = rest().substr(2).starts_with('{') ? rest().find('}') : std::string_view::npos;
    copy(brace == std::string_view::npos ? 2 : brace + 1);  // of \p{L}: all of it
  }

  void code_point() {
    if (rest().size() < 6) refuse(rest());
    result_ += fmt::format("\\x{{{}}}", rest().substr(2, 4));
    at_ += 6;
  }

  const std::string& pattern_;
  const std::string& where_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string result_;
};

}  // namespace

std::string translate_pattern(const std::string& pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace muonp::core
