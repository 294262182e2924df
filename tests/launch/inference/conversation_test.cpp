#include "launch/inference/conversation.h"

#include <gmock/gmock.h>

#include "core/base/error.h"

namespace muonp::launch {
namespace {

core::ChatTemplate chat() {
  return core::ChatTemplate::parse(
      "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
      "{% if add_generation_prompt %}a:{% endif %}",
      "test");
}

class Chat : public testing::Test {
 protected:
  std::string ask(Conversation& c, const std::string& message) const { return bytes_->decode(c.ask(message)); }
  core::TokenizerHandle bytes_ = core::make_byte_tokenizer();
};

TEST_F(Chat, KeepsWhatWasSaid) {
  Conversation c(chat(), *bytes_, "be brief", 100, 10);
  EXPECT_EQ(ask(c, "hi"), "s:be brief;u:hi;a:");
  c.answered("ho");
  EXPECT_EQ(ask(c, "so"), "s:be brief;u:hi;a:ho;u:so;a:");
  c.reset();
  EXPECT_EQ(ask(c, "so"), "s:be brief;u:so;a:");
}

// 24 of 30 tokens may be the prompt; the system's message is never forgotten.
TEST_F(Chat, ForgetsTheOldestMessagesWithTheirAnswers) {
  Conversation c(chat(), *bytes_, "S", 30, 6);
  EXPECT_EQ(ask(c, "1"), "s:S;u:1;a:");
  c.answered("A");
  EXPECT_EQ(ask(c, "2"), "s:S;u:1;a:A;u:2;a:");
  EXPECT_EQ(c.forgotten(), 0);
  c.answered("B");
  EXPECT_EQ(ask(c, "3"), "s:S;u:2;a:B;u:3;a:");
  EXPECT_EQ(c.forgotten(), 1);
  c.answered("C");
  EXPECT_EQ(ask(c, "0123456789012"), "s:S;u:0123456789012;a:");
  EXPECT_EQ(c.forgotten(), 2);
}

TEST_F(Chat, AMessageThatCannotFitIsNotPartOfTheConversation) {
  Conversation c(chat(), *bytes_, "", 30, 6);
  ask(c, "1");
  c.answered("A");
  try {
    c.ask(std::string(40, 'x'));
    ADD_FAILURE();
  } catch (const core::Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("45 tokens"), testing::HasSubstr("at most 24")));
  }
  EXPECT_EQ(ask(c, "2"), "u:1;a:A;u:2;a:");
}

}  // namespace
}  // namespace muonp::launch
