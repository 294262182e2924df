// A conversation with a model, as its chat template writes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/data/chat/chat_template.h"
#include "core/data/tokenizer/tokenizer.h"

namespace muonp::launch {

class Conversation {
 public:
  // `system` stands before everything said; empty: the template's own, if it has one. `context`: tokens that the model sees,
  // of which `room` are kept for an answer.
  Conversation(core::ChatTemplate chat, const core::Tokenizer& tokenizer, std::string system, std::int64_t context,
               std::int64_t room);

  // The ids that the model answers to `message` behind. Where they and the room for an answer do not fit in the context,
  // the oldest messages are forgotten, each with its answer, until they do. Error if the message alone does not fit; it is
  // then not part of the conversation.
  std::vector<std::int32_t> ask(const std::string& message);
  // What the model said to it.
  void answered(const std::string& answer) { messages_.push_back({"assistant", answer}); }
  void reset() { messages_.clear(); }
  std::int64_t forgotten() const { return forgotten_; }  // messages with their answers, by the last ask()

 private:
  std::vector<std::int32_t> encode() const;
  core::ChatTemplate chat_;
  const core::Tokenizer& tokenizer_;
  std::string system_;
  std::int64_t most_, forgotten_ = 0;
  std::vector<core::ChatMessage> messages_;  // without the system's
};

}  // namespace muonp::launch
