// The lines of a JSONL file that a model is evaluated on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace muonp::launch {

// read(line, "FILE:LINE") for each of the first `limit` lines that are not white space alone (0: all). Returns a hash of
// them. Error: the file cannot be read or has no line; a core::BadExample that `read` throws becomes an Error that begins
// with the place.
std::uint64_t read_task_lines(const std::string& file, std::int64_t limit,
                              const std::function<void(std::string_view line, std::int64_t number)>& read);
std::string place_of(const std::string& file, std::int64_t line);

}  // namespace muonp::launch
