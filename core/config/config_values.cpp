#include "core/config/config_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/utf8.h"

namespace muonp::core::config {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53: doubles below hold every integer

// std::from_chars takes no leading plus sign, but YAML writers use one.
std::string_view without_plus(std::string_view text) {
  const bool plus = text.size() > 1 && text[0] == '+' && text[1] != '-' && text[1] != '+';
  return plus ? text.substr(1) : text;
}

// Digits, sign, point and exponent: what from_chars would also take ("inf", "nan") is left out.
bool looks_numeric(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789+-.eE") == std::string_view::npos &&
         text.find_first_of("0123456789") != std::string_view::npos;
}

template <class T>
std::string bounds(const T& min, const T& max, bool has_min, bool has_max) {
  if (has_min && has_max) return fmt::format(" in [{}, {}]", min, max);
  if (has_min) return fmt::format(" ≥ {}", min);
  if (has_max) return fmt::format(" ≤ {}", max);
  return "";
}

bool plain_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_./+-").find(c) != std::string_view::npos;
}

// Readers of YAML 1.1 take more than this program does for truth values and nothing.
bool is_reserved(std::string_view text) {
  constexpr std::string_view kWords[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; });
  return std::find(std::begin(kWords), std::end(kWords), lower) != std::end(kWords);
}

// Words and paths: no number, date or time of any YAML begins with a letter or has a slash.
bool plain_in_yaml(std::string_view text) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), plain_character)) return false;
  if (text.starts_with("---") || text.starts_with("...")) return false;
  const bool letter = (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z');
  return text.find('/') != std::string_view::npos || (letter && !is_reserved(text));
}

// What YAML's readers refuse or take for a line's end when it stands in a text as it is.
bool is_special(std::uint32_t character) {
  return character < 0xa0 || character == 0x2028 || character == 0x2029 || character == 0xfeff || character == 0xfffe ||
         character == 0xffff;
}

// A character beyond ASCII.
std::string escaped(std::string_view character) {
  const std::uint32_t code = code_point(character);
  if (!is_special(code)) return std::string(character);
  return code < 0x100 ? fmt::format("\\x{:02x}", code) : fmt::format("\\u{:04x}", code);
}

std::string escaped(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\r':
      return "\\r";
    default:
      break;
  }
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
}

}  // namespace

ParsedReal parse_real(std::string_view text) {
  const std::string_view digits = without_plus(text);
  if (!looks_numeric(digits)) return {{}, fmt::format("'{}' is not a finite number", text)};
  double value = 0;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (status == std::errc::result_out_of_range)
    return {{}, fmt::format("'{}' is outside the range of double precision", text)};
  if (status != std::errc() || end != digits.data() + digits.size()) return {{}, fmt::format("'{}' is not a number", text)};
  return {value, ""};
}

ParsedInteger parse_integer(std::string_view text) {
  const std::string_view digits = without_plus(text);
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool complete = end == digits.data() + digits.size();
  if (status == std::errc() && complete) return {value, ""};
  if (status == std::errc::result_out_of_range && complete) return {{}, fmt::format("'{}' does not fit into 64 bits", text)};
  const ParsedReal real = parse_real(text);
  if (!real.value) return {{}, fmt::format("'{}' is not an integer", text)};
  if (std::trunc(*real.value) != *real.value) return {{}, fmt::format("'{}' is not a whole number", text)};
  if (std::fabs(*real.value) > kExactIntegers)
    return {{}, fmt::format("'{}' is too large to be written with an exponent or a point", text)};
  return {static_cast<std::int64_t>(*real.value), ""};
}

namespace {

template <class Parsed, class Range>
Parsed within(Parsed parsed, std::string_view text, const Range& valid) {
  if (!parsed.value) return {{}, fmt::format("expected {}, but {}", describe_valid(valid), parsed.problem)};
  if (*parsed.value >= valid.min && *parsed.value <= valid.max) return parsed;
  return {{}, fmt::format("{} is out of range; it must be {}", text, describe_valid(valid))};
}

}  // namespace

ParsedInteger read_integer(std::string_view text, const IntegerRange& valid) {
  return within(parse_integer(text), text, valid);
}

ParsedReal read_real(std::string_view text, const RealRange& valid) { return within(parse_real(text), text, valid); }

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::string describe_valid(const IntegerRange& range) {
  constexpr IntegerRange kAll;
  return "an integer" + bounds(range.min, range.max, range.min != kAll.min, range.max != kAll.max);
}

std::string describe_valid(const RealRange& range) {
  return "a number" + bounds(range.min, range.max, std::isfinite(range.min), std::isfinite(range.max));
}

std::string format_real(double value) {
  MUONP_ASSERT(std::isfinite(value), "a configuration value is {}, which YAML files of this program cannot hold", value);
  std::string text = fmt::format("{}", value);
  // YAML 1.1 knows a number by its point: 1.0e-08 and 3.0, not 1e-08 and 3.
  if (text.find('.') == std::string::npos) text.insert(std::min(text.find('e'), text.size()), ".0");
  return text;
}

std::string format_text(std::string_view text) {
  if (plain_in_yaml(text)) return std::string(text);
  std::string quoted = "\"";
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    MUONP_ASSERT(length > 0, "'{}' is not UTF-8, which YAML files hold", text);
    quoted += length == 1 ? escaped(text[0]) : escaped(text.substr(0, length));
    text.remove_prefix(length);
  }
  return quoted + "\"";
}

std::uint32_t code_point(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  std::uint32_t code = character.size() == 1 ? first : first & (0x7fu >> character.size());
  for (const char c : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3fu);
  return code;
}

std::size_t first_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t differs = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + differs});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

std::string quoted_list(std::span<const std::string> words) {
  std::string list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) list += i + 1 == words.size() ? " and " : ", ";
    list += "'" + words[i] + "'";
  }
  return list;
}

std::string suggestion(std::string_view word, std::span<const std::string> candidates) {
  const std::string best = nearest(word, candidates);
  if (best.empty()) return "";
  const std::size_t longest = std::max(word.size(), best.size());
  const bool contained = best.find(word) != std::string::npos || word.find(best) != std::string_view::npos;
  if (!contained && edit_distance(word, best) * 3 > longest * 2) return "";  // shares too little to be a slip
  return fmt::format(" did you mean '{}'?", best);
}

}  // namespace muonp::core::config
