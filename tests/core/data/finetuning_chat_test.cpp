// Conversations to marked ids: what the assistant says is learned.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/files/files.h"
#include "tests/core/data/mark_tokenizer.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

constexpr const char* kTurns =
    R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                     {"role": "user", "content": "c"}, {"role": "assistant", "content": "de"}]})";

std::string encoded_by(const char* source, const DataConfig& config = {}) {
  return encoded(kTurns, config, true, false, ChatTemplate::parse(source, "test.jinja"));
}

}  // namespace

TEST(ExampleEncoder, AnswersAreWhatTheGenerationPromptIsFollowedBy) {
  constexpr const char* kChatMl =
      "{% for m in messages %}{{ '<im>' + m['role'] + ':' + m['content'] + '<end>' + '\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<im>assistant:' }}{% endif %}";
  EXPECT_EQ(encoded_by(kChatMl), "<im>user:a<end>\n<im>assistant:[b<end>]\n<im>user:c<end>\n<im>assistant:[de<end>]\n");
  DataConfig all;
  all.loss = "all";
  EXPECT_EQ(encoded_by(kChatMl, all), "[<im>user:a<end>\n<im>assistant:b<end>\n<im>user:c<end>\n<im>assistant:de<end>\n]");
}

TEST(ExampleEncoder, AnswersAreWhatTheTemplateMarks) {
  EXPECT_EQ(encoded_by("{% for m in messages %}{% if m['role'] == 'assistant' %}<im>{% generation %}{{ m['content'] }}<end>"
                       "{% endgeneration %}{% else %}{{ m['content'] }}|{% endif %}{% endfor %}"),
            "a|<im>[b<end>]c|<im>[de<end>]");
}

// Qwen 3's template puts a thought, which may be empty, before the last answer only.
TEST(ExampleEncoder, TheLastAnswerMayBeWrittenOtherwiseThanEarlierOnes) {
  EXPECT_EQ(encoded_by("{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '*' if loop.last else '' }}"
                       "{{ m['content'] | trim }}<end>{% else %}{{ m['content'] }}|{% endif %}{% endfor %}"),
            "a|[b<end>]c|[*de<end>]");
}

TEST(ExampleEncoder, EveryAnswerOfQwen3IsLearned) {
  const auto chat = ChatTemplate::parse(read_file(std::string(MUONP_FIXTURES) + "/chat/qwen3.jinja"), "qwen3.jinja");
  constexpr const char* kThoughts =
      R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nt\n</think>\n\nax "},
                       {"role": "user", "content": "r"}, {"role": "assistant", "content": "y"},
                       {"role": "user", "content": "y"}, {"role": "assistant", "content": "z"}]})";
  EXPECT_EQ(encoded(kThoughts, {}, true, false, chat),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[ax <|im_end|>\n]"
            "<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n[y<|im_end|>\n]"
            "<|im_start|>user\ny<|im_end|>\n<|im_start|>assistant\n[<think>\n\n</think>\n\nz<|im_end|>\n]");
}

TEST(ExampleEncoder, ATemplateThatEndsEarlierAnswersOtherwiseIsRefusedInItsWords) {
  constexpr const char* kRewrites =
      "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ '!' if loop.last else ';' }}{% endif "
      "%}{% "
      "endfor %}";
  EXPECT_THAT(message_of<Error>([&] { encoded_by(kRewrites); }),
              AllOf(HasSubstr("the first 2 messages alone otherwise than within the conversation"), HasSubstr("\"ab!\""),
                    HasSubstr("\"ab;cde!\""), HasSubstr("{% generation %}")));
}

TEST(ExampleEncoder, WhatTheTemplateRefusesIsABadLine) {
  EXPECT_THAT(message_of<BadExample>([&] { encoded_by("{{ raise_exception('only one turn') }}"); }),
              HasSubstr("only one turn"));
}
