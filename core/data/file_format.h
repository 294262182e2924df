// What a file holds by its own first bytes, where that is neither text nor ids: training on it would go through, and
// mean nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace muonp::core {

inline constexpr std::size_t kFormatBytes = 512;  // of a file's start are enough to tell

struct FileFormat {
  std::string_view name;    // "a NumPy array (.npy)"
  std::string_view advice;  // what to do with it, as a clause
};

// `start`: the first kFormatBytes, or all of a shorter file; `size`: of the whole file in bytes. Only marks of so many
// fixed bytes count that ids and text do not begin like that by chance.
std::optional<FileFormat> known_format(std::string_view start, std::int64_t size);

// The same for a file that is to be text: also UTF-16 and UTF-32, and token files under another name than .bin.
std::optional<FileFormat> known_format_beside_text(std::string_view start, std::int64_t size);

// Why ids of 16 bits without a header are probably something else (text, ids of 32 or 64 bits); empty if nothing speaks
// against them. `start` are the first bytes of the file, as many as are at hand.
std::string_view suspicion_of_raw_ids(std::string_view start);

}  // namespace muonp::core
