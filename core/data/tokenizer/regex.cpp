#include "core/data/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/error.h"

namespace muonp::core {
namespace {

constexpr std::size_t kLeastStack = std::size_t{32} << 10, kMostStack = std::size_t{64} << 20;

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct RegexWork::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kLeastStack, kMostStack, nullptr);
  State() {
    if (context && stack) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

RegexWork::RegexWork() : state_(std::make_unique<State>()) {
  if (!state_->match || !state_->context) throw std::bad_alloc();
}
RegexWork::~RegexWork() = default;

struct Regex::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

Regex::Regex(const std::string& pattern, const std::string& where)
    : Regex(pattern, translate_pattern(pattern, where), where) {}

Regex::Regex(const std::string& pattern, const std::string& translated, const std::string& where) : pattern_(pattern) {
  auto code = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE place = 0;
  code->code =
      pcre2_compile(units(translated), translated.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &place, nullptr);
  if (!code->code)
    fail("{}: the pattern {} is none: {} (at '{}')", where, pattern, message_of(error), translated.substr(place));
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // where a machine has none, the interpreter does the same, slower
  code_ = std::move(code);
}

Regex Regex::literal(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == ' ' ||
                       (byte >= '0' && byte <= '9');
    escaped += plain ? std::string(1, c) : fmt::format("\\x{{{:x}}}", byte);
  }
  return {std::string(text), escaped, "a literal"};
}

TextRange Regex::find(std::string_view text, std::size_t from, RegexWork& work) const {
  const RegexWork::State& state = *work.state_;
  const int found = pcre2_match(code_->code, units(text), text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                                state.match, state.context);
  if (found == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  if (found < 0) fail("the pattern {} cannot be matched with '{}…': {}", pattern_, text.substr(from, 40), message_of(found));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state.match);
  return {ends[0], ends[1]};
}

}  // namespace muonp::core
