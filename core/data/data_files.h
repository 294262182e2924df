// The files that a path of the configuration stands for. Nothing in a folder is left out without a word but hidden
// files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

bool is_token_file(std::string_view path);  // by its name: *.bin

// `path` itself, or all files below a folder in the order of their paths, links followed, hidden files left out; all of
// one kind, token files or text. `key` begins messages ("data.train"). Error names what is missing, a link that leads
// nowhere or back to a folder that holds it, what is no file, a file of a format that is neither text nor ids.
std::vector<std::string> data_files(const std::string& path, const std::string& key);

}  // namespace muonp::core
