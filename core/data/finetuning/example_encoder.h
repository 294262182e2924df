// An example as token ids, each marked whether it is learned.
//
//   text        [begin] text [end]                            all learned
//   completion  [begin] prompt | completion [end]             learned from the | on
//   messages    what the chat template writes                 the assistant's answers are learned
//
// `begin` is put there where the tokenizer's original puts it before every text; `end` wherever the tokenizer has one, so
// that the model learns to stop. Prompt and completion are encoded apart, as parts of one text: a completion's first token
// never begins within the prompt, and the prompt has the ids that it has when the model is asked to go on from it.
//
// A template's text holds its special tokens itself, and nothing is put around it. Where it marks answers by
// {% generation %}, these are learned. Otherwise the answer of message i begins where the conversation up to i with the
// generation prompt ends, and ends with its words and what the template puts behind them. The first has to begin the whole,
// and the second to be the same as in the conversation that ends there, or else the template rewrites what was said before
// and an Error quotes where. White space behind the special token that ends an answer is not learned, since the model is
// stopped there. With data.loss: all everything is learned.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/data/chat/chat_template.h"
#include "core/data/finetuning/example.h"
#include "core/data/tokenizer/tokenizer.h"

namespace muonp::core {

// An id that is learned stands as itself, one that is not as its complement ~id, which is negative.
using MarkedIds = std::vector<std::int32_t>;
inline std::int32_t id_of_marked(std::int32_t marked) { return marked < 0 ? ~marked : marked; }
// Targets that are counted: learned ids but for the first, which follows nothing.
std::int64_t counted_in(const MarkedIds& ids);

// The chat template that data.chat_template names (a folder or a Jinja file), or the one in the tokenizer's folder; none
// where there is none. Error as ChatTemplate's.
std::optional<ChatTemplate> open_chat_template(const DataConfig& config, const Tokenizer& tokenizer);

class ExampleEncoder {
 public:
  ExampleEncoder(const DataConfig& config, TokenizerHandle tokenizer, std::optional<ChatTemplate> chat);

  // Threads may share it. BadExample: the template refuses the messages. Error: messages without a template, or with one
  // whose answers cannot be told apart.
  MarkedIds encode(const Example& example) const;
  // Differs where the ids or marks of an example may.
  std::uint64_t fingerprint() const;

 private:
  void append(std::string_view text, bool first, bool learned, MarkedIds& ids) const;
  void append_end(MarkedIds& ids) const;
  MarkedIds encode_messages(const std::vector<ChatMessage>& messages) const;
  void stop_at_special(MarkedIds& ids, std::size_t begin) const;

  bool all_;
  TokenizerHandle tokenizer_;
  std::optional<ChatTemplate> chat_;
};

}  // namespace muonp::core
