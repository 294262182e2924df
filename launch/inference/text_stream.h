// Tokens as the text that a person reads, as it comes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/tokenizer/tokenizer.h"

namespace muonp::launch {

class TextStream {
 public:
  // The text ends before the first of `stops` that it would contain, wherever the tokens end that make it. Empty ones are
  // not allowed.
  TextStream(const core::Tokenizer& tokenizer, std::vector<std::string> stops)
      : tokenizer_(tokenizer), stops_(std::move(stops)) {}

  // Goes on by a token, and returns what may be shown now: whole characters, and nothing that may yet turn out to begin a
  // stop string. Special tokens, and ids that the tokenizer does not have, stand for no text.
  std::string add(std::int32_t token);
  bool stopped() const { return stopped_; }
  // What is still held back when no token follows.
  std::string rest();
  // All of it: what was shown and what is held back.
  const std::string& text() const { return text_; }

 private:
  void stop_at_first(std::size_t from);
  std::size_t certain() const;  // bytes of the text that may be shown
  std::string show(std::size_t end);

  const core::Tokenizer& tokenizer_;
  std::vector<std::string> stops_;
  std::string text_;
  std::size_t shown_ = 0;
  bool stopped_ = false;
};

// Error names an empty one.
void check_stops(const std::vector<std::string>& stops);

}  // namespace muonp::launch
