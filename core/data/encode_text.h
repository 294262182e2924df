// Text files to token files.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/data/preparation.h"
#include "core/data/token_file.h"
#include "core/data/tokenizer/tokenizer.h"

namespace muonp::core {

// Encodes text files, one after the other, into a token file. Returns the number of ids.
std::int64_t tokenize_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files,
                            const std::string& token_file, TokenFormat format, const Preparation& preparation = {});
std::int64_t count_tokens(const Tokenizer& tokenizer, const std::vector<std::string>& text_files,
                          const Preparation& preparation = {});
// Hands the ids of the files to `use`, part by part, as if all of a file were encoded at once.
void encode_files(const Tokenizer& tokenizer, const std::vector<std::string>& text_files, const Preparation& preparation,
                  const std::function<void(std::span<const std::int32_t>)>& use);
// The text files that `path` stands for: itself, or those below a folder. Error: none, or no text in them.
// `key` begins the message ("data.train").
std::vector<std::string> text_files_of(const std::string& path, const std::string& key);

}  // namespace muonp::core
