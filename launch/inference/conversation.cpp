#include "launch/inference/conversation.h"

#include "core/base/error.h"

namespace muonp::launch {

Conversation::Conversation(core::ChatTemplate chat, const core::Tokenizer& tokenizer, std::string system,
                           std::int64_t context, std::int64_t room)
    : chat_(std::move(chat)), tokenizer_(tokenizer), system_(std::move(system)), most_(context - room) {}

std::vector<std::int32_t> Conversation::encode() const {
  std::vector<core::ChatMessage> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return tokenizer_.encode(chat_.render(all, true));
}

std::vector<std::int32_t> Conversation::ask(const std::string& message) {
  const std::vector<core::ChatMessage> before = messages_;
  messages_.push_back({"user", message});
  forgotten_ = 0;
  try {
    for (;; ++forgotten_) {
      std::vector<std::int32_t> ids = encode();
      if (std::ssize(ids) <= most_) return ids;
      if (messages_.size() == 1)
        core::fail("the message makes a prompt of {} tokens; at most {} leave room for an answer", ids.size(), most_);
      messages_.erase(messages_.begin(), messages_.begin() + 2);
    }
  } catch (const core::Error&) {
    messages_ = before;
    throw;
  }
}

}  // namespace muonp::launch
