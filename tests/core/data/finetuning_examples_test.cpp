// JSONL lines to examples, examples to marked ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/data/finetuning/example_encoder.h"
#include "tests/core/data/mark_tokenizer.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string refusal(const std::string& line, const DataConfig& config = {}) {
  return message_of<BadExample>([&] { ExampleFormat(config).parse(line); });
}

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

}  // namespace

TEST(FieldTemplate, FillsFieldsAndKeepsTheRest) {
  const FieldTemplate pattern("Question: {question}\nAnswer {{sic}}: {a b}", "data.prompt");
  EXPECT_THAT(pattern.fields(), ElementsAre("question", "a b"));
  EXPECT_EQ(pattern.fill([](const std::string& field) { return "<" + field + ">"; }),
            "Question: <question>\nAnswer {sic}: <a b>");
  EXPECT_TRUE(FieldTemplate("", "data.text").empty());
  for (const char* broken : {"{", "a}", "{a", "{}", "{a{b}}", "}"})
    EXPECT_THAT(error_of([&] { FieldTemplate(broken, "data.prompt"); }), HasSubstr("data.prompt")) << broken;
}

TEST(ExampleFormat, TellsKindsApart) {
  const ExampleFormat format{DataConfig{}};
  EXPECT_EQ(format.parse(R"({"text": "a\nb"})").kind, ExampleKind::text);
  const Example pair = format.parse(R"({"completion": "4", "prompt": "2+2=", "id": {"x": [1]}})");
  EXPECT_EQ(pair.kind, ExampleKind::completion);
  EXPECT_EQ(pair.prompt + "|" + pair.completion, "2+2=|4");
  const Example chat = format.parse(
      R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                       {"role": "assistant", "content": "c"}], "tools": []})");
  ASSERT_EQ(chat.kind, ExampleKind::messages);
  EXPECT_EQ(chat.messages[0].content, "ab");
  EXPECT_EQ(chat.messages[1].role, "assistant");
  EXPECT_TRUE(chat.tools);
  EXPECT_FALSE(pair.tools);
}

TEST(ExampleFormat, FieldsHaveTheNamesOfTheConfiguration) {
  DataConfig config;
  config.prompt = "Question: {question}\nAnswer: ";
  config.completion = "{answer}";
  const Example example = ExampleFormat(config).parse(R"({"question": "1+1?", "answer": 2})");
  EXPECT_EQ(example.prompt, "Question: 1+1?\nAnswer: ");
  EXPECT_EQ(example.completion, "2");
  EXPECT_THAT(refusal(R"({"prompt": "a", "completion": "b"})", config), HasSubstr("question and answer"));
  config.completion = "done";
  EXPECT_THAT(error_of([&] { ExampleFormat{config}; }), HasSubstr("data.completion: 'done' has no field"));
}

TEST(ExampleFormat, BadLinesSayWhatIsWrong) {
  EXPECT_THAT(refusal("{\"text\": "), HasSubstr("no JSON"));
  EXPECT_THAT(refusal("{\"text\": \"\xff\"}"), HasSubstr("no JSON"));
  EXPECT_THAT(refusal("{\"text\": \"a\", \"text\": \"b\"}"), HasSubstr("twice"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("it is a list"));
  EXPECT_THAT(refusal("3"), HasSubstr("no object"));
  EXPECT_THAT(refusal(R"({"a": 1, "prompt": "x"})"), HasSubstr("prompt and completion, or messages; but a, prompt"));
  EXPECT_THAT(refusal(R"({"text": "a", "messages": []})"), HasSubstr("messages and text"));
  EXPECT_THAT(refusal(R"({"text": ["a"]})"), HasSubstr("text is array"));
  EXPECT_THAT(refusal(R"({"text": ""})"), HasSubstr("its text is empty"));
  EXPECT_THAT(refusal(R"({"prompt": "a", "completion": ""})"), HasSubstr("its completion is empty"));
  EXPECT_THAT(refusal(R"({"prompt": null, "completion": "b"})"), HasSubstr("prompt is null"));
  EXPECT_THAT(refusal(R"({"messages": {}})"), HasSubstr("no list"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user", "content": "a"}]})"), HasSubstr("no message of the assistant"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "assistant", "content": ""}]})"),
              HasSubstr("answer of the assistant is empty"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "assistant", "content": null}]})"), HasSubstr("is null"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"), HasSubstr("type image"));
  EXPECT_THAT(refusal(R"({"messages": [{"content": "a"}]})"), HasSubstr("no role"));
}

TEST(ExampleEncoder, BoundaryAndEndsOfTextsAndCompletions) {
  const std::string pair = R"({"prompt": "ab ", "completion": "cd"})", text = R"({"text": "xy"})";
  EXPECT_EQ(encoded(pair), "<s>ab [cd</s>]");
  EXPECT_EQ(encoded(pair, {}, false), "ab [cd</s>]");
  EXPECT_EQ(encoded(pair, {}, true, true), "<s>^ab [cd</s>]");  // what is put before a text stands once
  EXPECT_EQ(encoded(text), "<s>[xy</s>]");
  EXPECT_EQ(encoded(R"({"prompt": "", "completion": "cd"})", {}, false, true), "[^cd</s>]");
  EXPECT_EQ(encoded(R"({"prompt": "a", "completion": "b</s>"})"), "<s>a[b</s>]");
  DataConfig all;
  all.loss = "all";
  EXPECT_EQ(encoded(pair, all), "[<s>ab cd</s>]");
}
