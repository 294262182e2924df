// Scalars of the configuration: text to value and back, and how valid values are described. Used by
// core/config_*.cpp and the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/config/config.h"

namespace muonp::core::config {

// The value, or why the text is not one. An integer may be written as an integral decimal ("1e3", "2.0"); a
// real must be finite; nothing may be left over after the number.
struct ParsedInteger {
  std::optional<std::int64_t> value;
  std::string problem;
};
struct ParsedReal {
  std::optional<double> value;
  std::string problem;
};
ParsedInteger parse_integer(std::string_view text);
ParsedReal parse_real(std::string_view text);
// The same, and within the range; the problem also says what is valid.
ParsedInteger read_integer(std::string_view text, const IntegerRange& valid);
ParsedReal read_real(std::string_view text, const RealRange& valid);
std::optional<bool> parse_boolean(std::string_view text);  // "true" or "false", nothing else

std::string describe_valid(const IntegerRange& range);  // "an integer ≥ 1"
std::string describe_valid(const RealRange& range);     // "a number in [0, 1]"

// What readers of YAML 1.1 and 1.2 read alike: the shortest decimal that reads back to the same double, with a point;
// a text, quoted where another reader could take it for something else. The text is UTF-8.
std::string format_real(double value);
std::string format_text(std::string_view text);
std::uint32_t code_point(std::string_view character);  // of one UTF-8 character
// Where a text stops to be UTF-8; npos if nowhere.
std::size_t first_invalid_utf8(std::string_view text);

// Insertions, deletions, substitutions and swaps of neighbours that turn a into b.
std::size_t edit_distance(std::string_view a, std::string_view b);

// "'a', 'b' and 'c'"
std::string quoted_list(std::span<const std::string> words);
// " did you mean 'x'?" if a candidate is close to the word, else an empty string.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace muonp::core::config
