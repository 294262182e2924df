// What a tokenizer.json says, read and checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/data/tokenizer/added_tokens.h"
#include "core/data/tokenizer/bpe_model.h"
#include "core/data/tokenizer/normalizer.h"
#include "core/data/tokenizer/tokenizer_config.h"
#include "core/data/tokenizer/word_splitter.h"

namespace muonp::core {

// How pieces become text.
struct PieceDecoding {
  std::vector<std::pair<std::string, std::string>> replacements;  // "▁" becomes " "
  bool bytes = false;                                             // "<0xE2>" is a byte
  std::string leading;                                            // taken off the front of a text,
  std::size_t leading_most = 0;                                   // at most so often
};

struct TokenizerJson {
  Normalizer normalizer;
  WordSplitter splitter;
  BpeModel model;
  AddedTokens raw, normalized;  // tokens to look for before and after the normalizer
  PieceDecoding decoding;
  std::vector<std::string> pieces;                    // the bytes of each id
  std::vector<bool> special;                          // by id
  std::unordered_map<std::string, std::int32_t> ids;  // by the file's spelling
  std::string begin, end;                             // what the post-processor puts around a text; empty: nothing
};

// Error names the file, the place in it, and what is supported.
TokenizerJson read_tokenizer_json(const std::string& file, const TokenizerConfig& config);

// GPT-2's spelling of bytes as printable characters, undone: the bytes, or `token` itself where it is not spelt so.
std::string bytes_of_spelling(std::string_view token);

}  // namespace muonp::core
