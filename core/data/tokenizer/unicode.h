// What tokenizers need of Unicode beyond core/base/utf8.h: repair, decoding, normal forms (utf8proc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace muonp::core {

// `text` if it is valid UTF-8, else a copy in `repaired`, in which each maximal sequence of bytes that could begin a
// character and does not, and each other invalid byte, became U+FFFD: what Python's bytes.decode(errors="replace") gives
// and the Unicode standard recommends (section 3.9).
std::string_view repaired_utf8(std::string_view text, std::string& repaired);

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;
};
// The character at the front (behind the end) of valid, not empty UTF-8.
CodePoint first_code_point(std::string_view text);
CodePoint last_code_point(std::string_view text);
void append_utf8(char32_t value, std::string& text);

bool is_white_space(char32_t c);  // Unicode's property White_Space
bool is_word(char32_t c);         // \w of Rust's regex: letters, marks, decimal digits, connectors, joiners

enum class NormalForm { nfc, nfd, nfkc, nfkd };
// Valid UTF-8 in a normal form.
std::string normal_form(std::string_view text, NormalForm form);
// Each character's lower, upper or title case (that of the first letter of a word), without regard to its neighbours.
std::string lower_case(std::string_view text);
std::string upper_case(std::string_view text);
std::string title_case(std::string_view text);

}  // namespace muonp::core
