// Tokens that a tokenizer finds in a text before anything else is done to it: "<|im_end|>" and its like.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

struct AddedToken {
  std::string content;
  std::int32_t id = -1;
  bool special = false;                 // skipped where a text's specials are read as plain text
  bool single_word = false;             // only where no word character stands on either side
  bool lstrip = false, rstrip = false;  // takes the white space on that side with it
  bool normalized = false;              // is looked for in the normalised text
};

// Finds the tokens of one kind (normalized or not): at each place the longest, from left to right.
class AddedTokens {
 public:
  void add(AddedToken token);
  bool empty() const { return tokens_.empty(); }
  // Whether a token takes white space beside it, or holds some itself.
  bool touches_space() const { return touches_space_; }

  // Calls text_found(text between tokens, where it begins) and token_found(id) from left to right. `with_special`: specials
  // are found too.
  template <class TextFound, class TokenFound>
  void split(std::string_view text, bool with_special, const TextFound& text_found, const TokenFound& token_found) const {
    std::size_t done = 0;
    for (Match match = next(text, 0); match.token; match = next(text, match.end)) {
      if ((match.token->special && !with_special) || !stands_alone(text, match)) continue;
      const Match whole = with_space(text, match, done);
      if (whole.begin > done) text_found(text.substr(done, whole.begin - done), done);
      token_found(match.token->id);
      done = whole.end;
    }
    if (done < text.size()) text_found(text.substr(done), done);
  }

 private:
  struct Match {
    const AddedToken* token = nullptr;
    std::size_t begin = 0, end = 0;
  };
  Match next(std::string_view text, std::size_t from) const;
  static bool stands_alone(std::string_view text, const Match& match);
  static Match with_space(std::string_view text, Match match, std::size_t least);

  std::vector<AddedToken> tokens_;
  std::array<std::vector<std::uint32_t>, 256> by_first_byte_;  // the longest first
  bool touches_space_ = false;
};

}  // namespace muonp::core
