// The `normalizer` of tokenizer.json: what is done to a text before it is cut into words.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/data/tokenizer/regex.h"
#include "core/data/tokenizer/unicode.h"

namespace muonp::core {

// Where a text that is looked at stands in the whole text.
enum class Place {
  start,      // at its beginning
  inside,     // behind an added token
  continued,  // it goes on from a part that was encoded before, and gets no prefix
};

class Normalizer {
 public:
  Normalizer() = default;
  // NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace and Sequences of them; null for none. Error names any other with
  // `where`.
  Normalizer(const nlohmann::json& description, const std::string& where);

  bool empty() const { return steps_.empty(); }
  // The text, in `buffer` where it had to be changed.
  std::string_view apply(std::string_view text, Place place, std::string& buffer, RegexWork& work) const;
  // In words ("Unicode NFC"); what decoding takes back (a prefix, a mark for a space) is left out.
  std::vector<std::string> changes() const;
  // The prefix that it puts before every text; empty for none.
  std::string prefix() const;

 private:
  struct LowerCase {};
  struct Prepend {
    std::string text;
  };
  struct Replace {
    Regex pattern;
    std::string content;
  };
  using Step = std::variant<NormalForm, LowerCase, Prepend, Replace>;

  void read(const nlohmann::json& description, const std::string& where);
  // False if the step leaves the text as it is.
  static bool run(const Step& step, std::string_view text, Place place, std::string& result, RegexWork& work);

  std::vector<Step> steps_;
};

}  // namespace muonp::core
