#include "core/data/tokenizer/added_tokens.h"

#include <algorithm>

#include "core/data/tokenizer/unicode.h"

namespace muonp::core {

void AddedTokens::add(AddedToken token) {
  if (token.content.empty()) return;  // nothing to find
  const auto is_space = [](char c) { return is_white_space(static_cast<unsigned char>(c)); };
  touches_space_ = touches_space_ || token.lstrip || token.rstrip || std::ranges::any_of(token.content, is_space);
  auto& same = by_first_byte_[static_cast<unsigned char>(token.content[0])];
  tokens_.push_back(std::move(token));
  const auto longer = [&](std::uint32_t a, std::uint32_t b) {
    return tokens_[a].content.size() > tokens_[b].content.size();
  };
  same.push_back(static_cast<std::uint32_t>(tokens_.size() - 1));
  std::ranges::stable_sort(same, longer);
}

AddedTokens::Match AddedTokens::next(std::string_view text, std::size_t from) const {
  if (tokens_.empty()) return {};
  for (std::size_t at = from; at < text.size(); ++at) {
    for (const std::uint32_t i : by_first_byte_[static_cast<unsigned char>(text[at])]) {
      const std::string& content = tokens_[i].content;
      if (text.substr(at).starts_with(content)) return {&tokens_[i], at, at + content.size()};
    }
  }
  return {};
}

bool AddedTokens::stands_alone(std::string_view text, const Match& match) {
  if (!match.token->single_word) return true;
  const bool word_before = match.begin > 0 && is_word(last_code_point(text.substr(0, match.begin)).value);
  const bool word_after = match.end < text.size() && is_word(first_code_point(text.substr(match.end)).value);
  return !word_before && !word_after;
}

AddedTokens::Match AddedTokens::with_space(std::string_view text, Match match, std::size_t least) {
  while (match.token->lstrip && match.begin > least) {
    const CodePoint before = last_code_point(text.substr(0, match.begin));
    if (!is_white_space(before.value)) break;
    match.begin -= before.bytes;
  }
  while (match.token->rstrip && match.end < text.size()) {
    const CodePoint after = first_code_point(text.substr(match.end));
    if (!is_white_space(after.value)) break;
    match.end += after.bytes;
  }
  return match;
}

}  // namespace muonp::core
