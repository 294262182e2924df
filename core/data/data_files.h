// The files that a path of the configuration stands for. Nothing in a folder is left out without a word but hidden
// files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

enum class DataKind : std::uint8_t { text, tokens, jsonl, examples };
// By its name: *.bin are tokens, *.jsonl examples as they were written, *.examples as this program encoded them; all else is
// text.
DataKind data_kind(std::string_view path);

// `path` itself, or all files below a folder in the order of their paths, links followed, hidden files left out; all of
// one kind. `key` begins messages ("data.train"). Error names what is missing, a link that leads
// nowhere or back to a folder that holds it, what is no file, a file of a format that is neither text nor ids.
std::vector<std::string> data_files(const std::string& path, const std::string& key);

}  // namespace muonp::core
