// The `pre_tokenizer` of tokenizer.json: cuts a text into the words within which byte pairs are merged.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/tokenizer/normalizer.h"
#include "core/data/tokenizer/regex.h"

namespace muonp::core {

class WordSplitter {
 public:
  using Use = std::function<void(std::string_view word)>;

  WordSplitter() = default;
  // ByteLevel, Split, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit and Sequences of them; null for none.
  // Error names any other with `where`.
  WordSplitter(const nlohmann::json& description, const std::string& where);

  // Calls `use` for each word, from left to right.
  void split(std::string_view text, Place place, RegexWork& work, const Use& use) const { run(0, text, place, work, use); }
  // Whether words are bytes, which the vocabulary spells in GPT-2's alphabet.
  bool byte_level() const { return byte_level_; }
  // What may be put before a text that does not begin with it; empty: nothing.
  const std::string& prefix() const { return prefix_; }

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  struct Step {
    std::vector<Regex> pattern;  // one, or none: the text stays whole
    Behavior behavior = Behavior::isolated;
    bool invert = false;  // what matches is text, what does not is the delimiter
    std::string prefix;   // put before a text that does not begin with it
    bool prefix_first_only = false;
    std::string space;  // what stands for a space; empty: itself
  };

  void read(const nlohmann::json& description, const std::string& where);
  void read_byte_level(const nlohmann::json& description, const std::string& where);
  void read_metaspace(const nlohmann::json& description, const std::string& where);
  void add(Regex pattern, Behavior behavior, bool invert);
  static Behavior behavior_field(const nlohmann::json& description, const std::string& where);
  void run(std::size_t step, std::string_view text, Place place, RegexWork& work, const Use& use) const;
  template <class Emit>
  static void cut(const Step& step, std::string_view text, RegexWork& work, const Emit& emit);

  std::vector<Step> steps_;
  bool byte_level_ = false;
  std::string prefix_;
};

}  // namespace muonp::core
