#include "core/data/finetuning/example_encoder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/hash.h"
#include "core/base/utf8.h"
#include "core/files/files.h"

namespace muonp::core {
namespace {

std::uint64_t hash_text(std::string_view text, std::uint64_t seed) {
  return hash_bytes(text.data(), std::ssize(text), seed);
}

bool is_white_space(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// A piece of `text` around `at`, for a message.
std::string quoted(std::string_view text, std::size_t at) {
  constexpr std::size_t kBefore = 24, kAfter = 40;
  const std::size_t begin = at > kBefore ? at - kBefore : 0;
  return nlohmann::json(text.substr(begin, kBefore + kAfter)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// `prefix` has to begin `whole`; `what` says which part of the conversation it is.
void require_prefix(std::string_view whole, std::string_view prefix, const std::string& what, const std::string& advice) {
  if (whole.starts_with(prefix)) return;
  const auto differ = std::ranges::mismatch(whole, prefix);
  const auto at = static_cast<std::size_t>(differ.in1 - whole.begin());
  fail(
      "the chat template writes {} alone otherwise than within the conversation ({} and not {}), so that what the assistant "
      "says cannot be told from the rest; {}",
      what, quoted(prefix, at), quoted(whole, at), advice);
}

constexpr const char* kAdvice =
    "a template that marks it by {% generation %} (data.chat_template), or data.loss: all, does without";

std::size_t common_suffix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.rbegin(), a.rend(), b.rbegin(), b.rend()).first - a.rbegin());
}

// How much of the text stands behind the words of message i: what stays when a letter is put at their end, another one than
// they end in.
std::size_t behind_words(const ChatTemplate& chat, std::vector<ChatMessage> messages, std::size_t i, std::string_view text) {
  const std::size_t last = messages[i].content.find_last_not_of(" \t\r\n");
  messages[i].content += last != std::string::npos && messages[i].content[last] == 'x' ? 'y' : 'x';
  return common_suffix(text, chat.render(messages, false));
}

// Where the answer of message i ends in `whole`: with the conversation up to it or, where the template writes its last
// answer otherwise than the same one earlier (Qwen3 puts an empty thought before the last), behind its words and the ending
// that they have there.
std::size_t end_of_answer(const ChatTemplate& chat, const std::vector<ChatMessage>& messages, std::size_t i,
                          std::string_view whole) {
  const std::vector<ChatMessage> beginning(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  const std::string alone = chat.render(beginning, false);
  if (whole.starts_with(alone)) return alone.size();
  const std::size_t ending = behind_words(chat, beginning, i, alone);
  const std::size_t words_end = whole.size() - behind_words(chat, messages, i, whole);
  const bool same = whole.substr(words_end).starts_with(std::string_view(alone).substr(alone.size() - ending));
  if (!same) require_prefix(whole, alone, fmt::format("the first {} messages", i + 1), kAdvice);
  return words_end + ending;
}

// Where each answer begins and ends in `whole`, by rendering the conversation's beginnings.
std::vector<TextSpan> answers(const ChatTemplate& chat, const std::vector<ChatMessage>& messages, std::string_view whole) {
  std::vector<TextSpan> spans;
  const std::span<const ChatMessage> all(messages);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const std::string before = chat.render(all.first(i), true);
    require_prefix(whole, before, fmt::format("the first {} messages with the generation prompt", i), kAdvice);
    const std::size_t end = end_of_answer(chat, messages, i, whole);
    if (end <= before.size()) fail("the chat template writes nothing for an answer of the assistant; {}", kAdvice);
    spans.push_back({before.size(), end});
  }
  return spans;
}

RenderedChat render(const ChatTemplate& chat, const std::vector<ChatMessage>& messages) {
  try {
    return chat.render_marked(messages, false);
  } catch (const Error& error) {
    throw BadExample(error.what());
  }
}

}  // namespace

std::int64_t counted_in(const MarkedIds& ids) {
  return ids.empty() ? 0 : std::count_if(ids.begin() + 1, ids.end(), [](std::int32_t id) { return id >= 0; });
}

std::optional<ChatTemplate> open_chat_template(const DataConfig& config, const Tokenizer& tokenizer) {
  const std::string& path = config.chat_template;
  if (path.empty()) {
    if (!is_directory(config.tokenizer) || !ChatTemplate::exists(config.tokenizer)) return {};
    return ChatTemplate::open(config.tokenizer);
  }
  if (!exists(path)) fail("data.chat_template: there is no file or folder {}", path);
  if (is_directory(path)) return ChatTemplate::open(path);
  nlohmann::json tokens = nlohmann::json::object();
  if (tokenizer.begin() >= 0) tokens["bos_token"] = tokenizer.piece(tokenizer.begin());
  if (tokenizer.end() >= 0) tokens["eos_token"] = tokenizer.piece(tokenizer.end());
  return ChatTemplate::parse(read_file(path), path, tokens.dump());
}

ExampleEncoder::ExampleEncoder(const DataConfig& config, TokenizerHandle tokenizer, std::optional<ChatTemplate> chat)
    : all_(config.loss == "all"), tokenizer_(std::move(tokenizer)), chat_(std::move(chat)) {}

std::uint64_t ExampleEncoder::fingerprint() const {
  constexpr std::uint64_t kRules = 1;  // rises when they change
  const std::int32_t ends[] = {tokenizer_->adds_begin() ? tokenizer_->begin() : -1, tokenizer_->end(), all_};
  std::uint64_t hash = hash_bytes(ends, sizeof(ends), tokenizer_->fingerprint() + kRules);
  return chat_ ? hash_text(chat_->source(), hash) : hash;
}

void ExampleEncoder::append(std::string_view text, bool first, bool learned, MarkedIds& ids) const {
  const std::size_t begin = ids.size();
  tokenizer_->encode_part(text, first, Specials::parse, ids);
  if (!learned && !all_)
    for (std::size_t i = begin; i < ids.size(); ++i) ids[i] = ~ids[i];
}

// Unless the text has it already.
void ExampleEncoder::append_end(MarkedIds& ids) const {
  const std::int32_t end = tokenizer_->end();
  if (end >= 0 && (ids.empty() || ids.back() != end)) ids.push_back(end);
}

MarkedIds ExampleEncoder::encode(const Example& example) const {
  if (example.kind == ExampleKind::messages) return encode_messages(example.messages);
  MarkedIds ids;
  const bool begins = tokenizer_->adds_begin() && tokenizer_->begin() >= 0;
  if (begins) ids.push_back(all_ ? tokenizer_->begin() : ~tokenizer_->begin());
  if (!example.prompt.empty()) append(example.prompt, true, false, ids);
  append(example.completion, example.prompt.empty(), true, ids);
  append_end(ids);
  return ids;
}

MarkedIds ExampleEncoder::encode_messages(const std::vector<ChatMessage>& messages) const {
  if (!chat_)
    fail(
        "it has messages, and there is no chat template to write them with: data.tokenizer names no folder that has one, "
        "and data.chat_template neither a folder nor a Jinja file");
  const RenderedChat whole = render(*chat_, messages);
  const std::string_view text = whole.text;
  std::vector<TextSpan> spans;
  if (!all_) spans = chat_->marks_generations() ? whole.generations : answers(*chat_, messages, text);
  spans.push_back({text.size(), text.size()});
  MarkedIds ids;
  std::size_t at = 0;
  for (const TextSpan& span : spans) {
    if (span.begin > at) append(text.substr(at, span.begin - at), at == 0, false, ids);
    const std::size_t begin = ids.size();
    if (span.end > span.begin) append(text.substr(span.begin, span.end - span.begin), span.begin == 0, true, ids);
    stop_at_special(ids, begin);
    at = span.end;
  }
  return ids;
}

// Of the answer ids[begin ...], white space behind its last special token is not learned.
void ExampleEncoder::stop_at_special(MarkedIds& ids, std::size_t begin) const {
  std::size_t end = ids.size();
  while (end > begin && !tokenizer_->is_special(ids[end - 1]) && is_white_space(tokenizer_->piece(ids[end - 1]))) --end;
  if (end == begin || !tokenizer_->is_special(ids[end - 1])) return;
  for (std::size_t i = end; i < ids.size(); ++i) ids[i] = ~ids[i];
}

}  // namespace muonp::core
