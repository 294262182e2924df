#include "launch/evaluation/answer_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>

#include "core/base/error.h"

namespace muonp::launch {

namespace {

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string trimmed(std::string_view text) {
  constexpr std::string_view kWhite = " \t\r\n\f\v";
  const std::size_t begin = text.find_first_not_of(kWhite);
  return begin == std::string_view::npos ? "" : std::string(text.substr(begin, text.find_last_not_of(kWhite) + 1 - begin));
}

struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

}  // namespace

struct AnswerPattern::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

AnswerPattern::AnswerPattern(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {
  if (pattern.empty()) return;
  auto code = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE place = 0;
  code->code = pcre2_compile(units(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &place,
                             nullptr);
  if (!code->code)
    core::fail("{}: '{}' is no regular expression: {} at character {}", where, pattern, message_of(error), place);
  code_ = std::move(code);
}

std::optional<std::string> AnswerPattern::find(std::string_view text) const {
  if (!code_) return trimmed(text);
  const std::unique_ptr<pcre2_match_data, FreeMatch> match(pcre2_match_data_create_from_pattern(code_->code, nullptr));
  if (!match) throw std::bad_alloc();
  std::optional<std::string> last;
  for (std::size_t from = 0; from <= text.size();) {
    const int groups = pcre2_match(code_->code, units(text), text.size(), from, PCRE2_NOTEMPTY, match.get(), nullptr);
    if (groups == PCRE2_ERROR_NOMATCH) break;
    if (groups < 0) core::fail("{}: '{}' cannot be matched: {}", where_, pattern_, message_of(groups));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
    const std::size_t group = groups > 1 && ends[2] != PCRE2_UNSET ? 2 : 0;
    last = trimmed(text.substr(ends[group], ends[group + 1] - ends[group]));
    from = std::max<std::size_t>(ends[1], from + 1);
  }
  return last;
}

}  // namespace muonp::launch
