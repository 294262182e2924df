#include "core/data/tokenizer/word_splitter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/error.h"
#include "core/data/tokenizer/json_fields.h"

namespace muonp::core {
namespace {

using Json = nlohmann::json;

// Of the GPT-2 paper's code: contractions, then a word, number or other signs with the space before them, then space of
// which the last goes to the next word.
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kSpaceMark = "\xe2\x96\x81";

}  // namespace

WordSplitter::WordSplitter(const Json& description, const std::string& where) { read(description, where); }

void WordSplitter::read(const Json& description, const std::string& where) {
  const std::string type = type_of(description, where);
  if (type.empty()) return;
  if (type == "Sequence") {
    std::size_t i = 0;
    for (const Json& part : list_field(description, "pretokenizers", where))
      read(part, fmt::format("{}.pretokenizers[{}]", where, i++));
    return;
  }
  if (byte_level_) fail("{}: {} after ByteLevel, which leaves no characters to split by, is not supported", where, type);
  if (type == "ByteLevel") return read_byte_level(description, where);
  if (type == "Metaspace") return read_metaspace(description, where);
  const auto split_by = [&](const char* pattern, Behavior behavior, bool invert = false) {
    add(Regex(pattern, where), behavior, invert);
  };
  if (type == "Split") {
    add(pattern_field(description, where), behavior_field(description, where),
        flag_field(description, "invert", false, where));
  } else if (type == "Digits") {
    const bool single = flag_field(description, "individual_digits", false, where);
    split_by("\\p{N}", single ? Behavior::isolated : Behavior::contiguous);
  } else if (type == "Punctuation") {
    split_by("[\\p{P}!-/:-@\\[-`{-~]",
             description.contains("behavior") ? behavior_field(description, where) : Behavior::isolated);
  } else if (type == "Whitespace") {
    split_by("\\w+|[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\s]+", Behavior::removed, true);
  } else if (type == "WhitespaceSplit") {
    split_by("\\s", Behavior::removed);
  } else {
    fail(
        "{}: the pre-tokenizer {} is not supported; supported are ByteLevel, Split, Digits, Metaspace, Punctuation, "
        "Whitespace, WhitespaceSplit, Sequence",
        where, type);
  }
}

void WordSplitter::add(Regex pattern, Behavior behavior, bool invert) {
  Step step;
  step.pattern.push_back(std::move(pattern));
  step.behavior = behavior;
  step.invert = invert;
  steps_.push_back(std::move(step));
}

WordSplitter::Behavior WordSplitter::behavior_field(const Json& description, const std::string& where) {
  constexpr std::array<const char*, 5> kNames = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                                 "Contiguous"};
  const std::string name = text_field(description, "behavior", where);
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) fail("{}.behavior: {} is none of {}", where, name, fmt::join(kNames, ", "));
  return static_cast<Behavior>(found - kNames.begin());
}

void WordSplitter::read_byte_level(const Json& description, const std::string& where) {
  byte_level_ = true;
  Step step;
  if (flag_field(description, "use_regex", true, where)) step.pattern.emplace_back(kGpt2Pattern, where);
  if (flag_field(description, "add_prefix_space", true, where)) step.prefix = prefix_ = std::string(1, ' ');
  if (!step.pattern.empty() || !step.prefix.empty()) steps_.push_back(std::move(step));
}

// Older files have add_prefix_space instead of prepend_scheme.
void WordSplitter::read_metaspace(const Json& description, const std::string& where) {
  Step step;
  step.space = description.contains("replacement") ? text_field(description, "replacement", where) : kSpaceMark;
  std::string scheme = flag_field(description, "add_prefix_space", true, where) ? "always" : "never";
  if (description.contains("prepend_scheme")) scheme = text_field(description, "prepend_scheme", where);
  if (scheme != "always" && scheme != "first" && scheme != "never")
    fail("{}.prepend_scheme: {} is none of always, first, never", where, scheme);
  if (scheme != "never") step.prefix = prefix_ = step.space;
  step.prefix_first_only = scheme == "first";
  if (flag_field(description, "split", true, where)) step.pattern.push_back(Regex::literal(step.space));
  step.behavior = Behavior::merged_with_next;
  steps_.push_back(std::move(step));
}

// Calls emit(begin, end) for the pieces of `text`: what matches, and what lies between.
template <class Emit>
void WordSplitter::cut(const Step& step, std::string_view text, RegexWork& work, const Emit& emit) {
  TextRange held;  // may still grow, or join what comes next
  bool held_match = false, holding = false;
  const auto release = [&] {
    if (holding) emit(held.begin, held.end);
    holding = false;
  };
  const auto piece = [&](std::size_t begin, std::size_t end, bool match) {
    if (begin == end) return;
    match = match != step.invert;
    bool join = false;
    if (step.behavior == Behavior::contiguous) join = holding && match == held_match;
    if (step.behavior == Behavior::merged_with_previous) join = holding && match && !held_match;
    if (step.behavior == Behavior::merged_with_next) join = holding && held_match && !match;
    if (!join) release();
    if (step.behavior == Behavior::removed && match) return;
    held = {join ? held.begin : begin, end};
    held_match = match;
    holding = true;
  };
  std::size_t done = 0;
  for (TextRange found = step.pattern.front().find(text, 0, work); found.begin < found.end;
       found = step.pattern.front().find(text, done, work)) {
    piece(done, found.begin, false);
    piece(found.begin, found.end, true);
    done = found.end;
  }
  piece(done, text.size(), false);
  release();
}

void WordSplitter::run(std::size_t index, std::string_view text, Place place, RegexWork& work, const Use& use) const {
  if (text.empty()) return;
  if (index == steps_.size()) return use(text);
  const Step& step = steps_[index];
  std::string changed;
  if (!step.space.empty()) {
    for (const char c : text) c == ' ' ? changed += step.space : changed += c;
    text = changed;
  }
  const bool prefixed = place == Place::start || (place == Place::inside && !step.prefix_first_only);
  if (!step.prefix.empty() && prefixed && !text.starts_with(step.prefix)) {
    std::string with_prefix = step.prefix + std::string(text);
    changed.swap(with_prefix);
    text = changed;
  }
  if (step.pattern.empty()) return run(index + 1, text, place, work, use);
  cut(step, text, work, [&](std::size_t begin, std::size_t end) {
    run(index + 1, text.substr(begin, end - begin), begin == 0 ? place : Place::inside, work, use);
  });
}

}  // namespace muonp::core
