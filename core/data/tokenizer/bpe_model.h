// Byte-pair encoding (Sennrich et al., 2016) of single words, by the vocabulary and the merges of tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/tokenizer/word_cache.h"

namespace muonp::core {

struct BpeOptions {
  bool byte_level = false;     // symbols are bytes, not characters
  bool ignore_merges = false;  // a word of the vocabulary is that token, whatever its merges give
  bool byte_fallback = false;  // a character that is no token becomes the tokens of its bytes ("<0xE2>")
  bool fuse_unknown = false;   // several unknown characters become one unknown token
  std::int32_t unknown = -1;   // -1: what is not known is left out, as the original does
};

class BpeModel {
 public:
  struct Merge {
    std::int32_t left, right, result;  // ids; the first merge is done first
  };
  // What one thread needs.
  struct Work {
    WordCache cache;
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> next, previous;
    std::vector<std::pair<std::uint64_t, std::int32_t>> heap;
  };

  BpeModel() = default;
  // tokens: text (bytes if byte_level) to id.
  BpeModel(const BpeOptions& options, const std::vector<std::pair<std::string, std::int32_t>>& tokens,
           const std::vector<Merge>& merges);

  void encode_word(std::string_view word, Work& work, std::vector<std::int32_t>& ids) const;
  // Whether every byte (of byte_level or byte_fallback) has its token, so that nothing is unknown.
  bool knows_all_bytes() const;

 private:
  struct StringHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct Pair {
    std::uint64_t ids = ~std::uint64_t{0};  // left << 32 | right; all ones: free
    std::int32_t rank = 0, result = -1;
  };

  const Pair* find_pair(std::int32_t left, std::int32_t right) const;
  void insert_pair(const Merge& merge, std::int32_t rank);
  void first_symbols(std::string_view word, std::vector<std::int32_t>& ids) const;
  void characters(std::string_view word, std::vector<std::int32_t>& ids) const;
  void merge_short(std::vector<std::int32_t>& ids) const;
  void merge_long(Work& work) const;

  BpeOptions options_;
  std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>> tokens_;  // whole words and characters
  std::array<std::int32_t, 256> bytes_{};                                              // -1: none
  std::vector<Pair> pairs_;                                                            // open addressing, a power of two
};

}  // namespace muonp::core
