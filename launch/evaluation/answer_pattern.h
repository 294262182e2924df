// What counts of an answer: the number at its end, for example.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace muonp::launch {

class AnswerPattern {
 public:
  // A regular expression in Perl's syntax (PCRE2; UTF-8, Unicode classes). Empty: all of the text counts. Error names
  // `where` and what is wrong at which place.
  AnswerPattern(const std::string& pattern, const std::string& where);

  // Of the last match in the text: its first group if the pattern has one that took part, else the whole; without white
  // space around it. Nothing if there is no match. Bytes that are no UTF-8 match nothing. Error: the library gives up.
  std::optional<std::string> find(std::string_view text) const;

 private:
  struct Code;
  std::string pattern_, where_;
  std::shared_ptr<const Code> code_;  // null: all of the text
};

}  // namespace muonp::launch
