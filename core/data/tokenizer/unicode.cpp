#include "core/data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "core/base/error.h"
#include "core/base/utf8.h"

namespace muonp::core {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

unsigned char byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

// Bytes at the front, where no character stands, that become one U+FFFD.
std::size_t invalid_length(std::string_view text) {
  const unsigned first = byte_at(text, 0);
  if (first < 0xc2 || first > 0xf4) return 1;
  const std::size_t wanted = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  unsigned least = 0x80, most = 0xbf;  // of the second byte (table 3-7)
  if (first == 0xe0) least = 0xa0;
  if (first == 0xed) most = 0x9f;
  if (first == 0xf0) least = 0x90;
  if (first == 0xf4) most = 0x8f;
  std::size_t length = 1;
  for (; length < std::min(wanted, text.size()); ++length, least = 0x80, most = 0xbf)
    if (byte_at(text, length) < least || byte_at(text, length) > most) break;
  return length;
}

// Bytes of the longest valid beginning.
std::size_t valid_length(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (byte_at(text, at) < 0x80) {
      ++at;
      continue;
    }
    const std::size_t length = utf8_length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

// `pair`: the character that becomes two.
std::string mapped(std::string_view text, utf8proc_int32_t (*map)(utf8proc_int32_t), char32_t pair, std::string_view two) {
  std::string result;
  while (!text.empty()) {
    const CodePoint c = first_code_point(text);
    if (c.value == pair) {
      result += two;
    } else {
      append_utf8(static_cast<char32_t>(map(static_cast<utf8proc_int32_t>(c.value))), result);
    }
    text.remove_prefix(c.bytes);
  }
  return result;
}

}  // namespace

std::string_view repaired_utf8(std::string_view text, std::string& repaired) {
  std::size_t valid = valid_length(text);
  if (valid == text.size()) return text;
  repaired.clear();
  while (true) {
    repaired += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) return repaired;
    repaired += kReplacement;
    text.remove_prefix(invalid_length(text));
    valid = valid_length(text);
  }
}

CodePoint first_code_point(std::string_view text) {
  const char32_t first = byte_at(text, 0);
  const auto next = [&](std::size_t i) { return static_cast<char32_t>(byte_at(text, i) & 0x3f); };
  if (first < 0x80) return {first, 1};
  if (first < 0xe0) return {(first & 0x1f) << 6 | next(1), 2};
  if (first < 0xf0) return {(first & 0xf) << 12 | next(1) << 6 | next(2), 3};
  return {(first & 7) << 18 | next(1) << 12 | next(2) << 6 | next(3), 4};
}

CodePoint last_code_point(std::string_view text) { return first_code_point(text.substr(utf8_cut(text, text.size() - 1))); }

void append_utf8(char32_t value, std::string& text) {
  utf8proc_uint8_t bytes[4];
  const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(value), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  if (c == 0x85) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

bool is_word(char32_t c) {
  if (c == 0x200c || c == 0x200d) return true;
  const bool circled = (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
                       (c >= 0x1f170 && c <= 0x1f189);  // the symbols that count as alphabetic
  const int category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return circled || (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC;
}

std::string normal_form(std::string_view text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::nfc || form == NormalForm::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const auto bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), std::ssize(text), &result,
                                  static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (bytes < 0) fail("Unicode normalisation of {} bytes: {}", text.size(), utf8proc_errmsg(bytes));
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(bytes)};
}

std::string lower_case(std::string_view text) { return mapped(text, utf8proc_tolower, 0x130, "i\xcc\x87"); }
std::string upper_case(std::string_view text) { return mapped(text, utf8proc_toupper, 0xdf, "SS"); }
std::string title_case(std::string_view text) { return mapped(text, utf8proc_totitle, 0xdf, "Ss"); }

}  // namespace muonp::core
