// Chat templates, compared with what transformers' apply_chat_template gives (tests/fixtures/chat).
#include "core/data/chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {
namespace {

using namespace muonp::core;
using testing::AllOf;
using testing::HasSubstr;

const std::string kFixtures = MUONP_FIXTURES "/chat";
constexpr const char* kVariables = R"({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})";

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

std::string rendered(const std::string& source, const std::string& messages = "[]") {
  return ChatTemplate::parse(source, "test", kVariables).render_json(messages, false).text;
}

// Other fixtures of the same form, made with more conversations: MUONP_CHAT_FIXTURES=FOLDER.
std::string cases_of(const std::string& family) {
  const char* other = std::getenv("MUONP_CHAT_FIXTURES");
  return get((other ? other : kFixtures) + "/" + family + ".json");
}

class Family : public testing::TestWithParam<std::string> {};

}  // namespace

TEST_P(Family, GivesTheTextOfTransformers) {
  const ChatTemplate chat = ChatTemplate::parse(get(kFixtures + "/" + GetParam() + ".jinja"), GetParam(), kVariables);
  const auto cases = nlohmann::ordered_json::parse(cases_of(GetParam()));
  ASSERT_GE(cases.size(), 20u);
  for (const auto& c : cases) {
    const auto render = [&] {
      return chat.render_json(c["messages"].dump(), c["add_generation_prompt"].get<bool>(), c["extra"].dump()).text;
    };
    if (c["text"].is_null())
      EXPECT_THAT(error_of(render), HasSubstr("the template refuses this conversation")) << c["messages"];
    else
      EXPECT_EQ(render(), c["text"].get<std::string>()) << c["messages"];
  }
}

INSTANTIATE_TEST_SUITE_P(Templates, Family,
                         testing::Values("chatml", "llama2", "llama3", "mistral", "qwen2", "qwen3", "language"),
                         [](const auto& test) { return test.param; });

TEST(ChatTemplate, WhiteSpaceIsThatOfTransformers) {
  EXPECT_EQ(rendered("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(rendered("a  {%- if true -%}  \n b {%- endif %}c"), "abc");
  EXPECT_EQ(rendered("  {{ 'x' }}\ny"), "  x\ny");
  EXPECT_EQ(rendered("a\n  {%+ if true +%}\nb{% endif %}"), "a\n  \nb");
  EXPECT_EQ(rendered("a {# a comment #}\n b\r\nc"), "a  b\nc");
  EXPECT_EQ(rendered("{{ '%}' }}{{ {'a': {'b': '}}'}}.a.b }}"), "%}}}");
}

TEST(ChatTemplate, GenerationsAreMarked) {
  const std::vector<ChatMessage> messages = {{"user", "hi"}, {"assistant", "ho"}, {"user", "1"}, {"assistant", "twö"}};
  const ChatTemplate chat = ChatTemplate::parse(
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!{% endgeneration "
      "%}"
      "{% else %}{{ m.content }}{% endif %}{% endfor %}",
      "test");
  EXPECT_TRUE(chat.marks_generations());
  const RenderedChat result = chat.render_marked(messages, false);
  ASSERT_EQ(result.generations.size(), 2u);
  const auto marked = [&](std::size_t i) {
    return result.text.substr(result.generations[i].begin, result.generations[i].end - result.generations[i].begin);
  };
  EXPECT_EQ(marked(0), "ho!");
  EXPECT_EQ(marked(1), "twö!");
  EXPECT_FALSE(ChatTemplate::parse("{{ messages }}", "test").marks_generations());
}

TEST(ChatTemplate, IsFoundInItsFolder) {
  TemporaryFolder folder;
  EXPECT_FALSE(ChatTemplate::exists(folder.path()));
  EXPECT_THAT(error_of([&] { ChatTemplate::open(folder.path()); }), HasSubstr("there is no chat template in this folder"));
  put(folder / "special_tokens_map.json", R"({"bos_token": {"content": "[BOS]"}, "eos_token": "[no]"})");
  put(folder / "tokenizer_config.json",
      R"({"eos_token": "[EOS]", "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "{{ bos_token + eos_token }}d"}]})");
  EXPECT_TRUE(ChatTemplate::exists(folder.path()));
  EXPECT_EQ(ChatTemplate::open(folder.path()).render({}, false), "[BOS][EOS]d");
  put(folder / "chat_template.jinja", "{{ messages[0].content }}{{ eos_token }}");
  const std::vector<ChatMessage> messages = {{"user", "broken \xff"}};
  EXPECT_EQ(ChatTemplate::open(folder.path()).render(messages, true), "broken \xef\xbf\xbd[EOS]");
}

TEST(ChatTemplate, WhatIsNotSupportedIsQuotedWithItsLine) {
  const auto error = [](const std::string& source) { return error_of([&] { ChatTemplate::parse(source, "t.jinja"); }); };
  EXPECT_THAT(
      error("a\n\n{% include 'x' %}"),
      AllOf(HasSubstr("t.jinja, line 3"), HasSubstr("the tag 'include' is not supported"), HasSubstr("{% include 'x' %}")));
  EXPECT_THAT(error("{{ a | shuffle }}"),
              AllOf(HasSubstr("the filter 'shuffle' is not supported"), HasSubstr("{{ a | shuffle }}")));
  EXPECT_THAT(error("{% if a is sameas b %}{% endif %}"), HasSubstr("the test 'sameas' is not supported"));
  EXPECT_THAT(error("{{ 2 ** 3 }}"), HasSubstr("'**' is not supported"));
  EXPECT_THAT(error("{{ a ? b }}"), HasSubstr("'?' is not supported"));
  EXPECT_THAT(error("\n{% for a in b %}"), AllOf(HasSubstr("'endfor' of line 2"), HasSubstr("the template's end")));
  EXPECT_THAT(error("{% endif %}"), HasSubstr("'endif' ends nothing"));
  EXPECT_THAT(error("{{ 'abc }}"), HasSubstr("a string that does not end"));
  EXPECT_THAT(error("{{ a "), HasSubstr("does not end with }}"));
  EXPECT_THAT(error("{# a "), HasSubstr("a comment that does not end"));
  EXPECT_THAT(error("{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}"), HasSubstr("nested so deep"));
  EXPECT_THAT(error("{{ " + std::string(5000, '-') + "1 }}"), HasSubstr("nested so deep"));
  EXPECT_THAT(error("{% break %}"), HasSubstr("'break' outside of a loop"));
}

TEST(ChatTemplate, EscapesAreCharacters) {
  EXPECT_EQ(rendered("{{ '\\xe9\\u1e9e' | lower }}"), "éß");
  for (const std::string wrong : {"\\ud800", "\\udfff", "\\U00110000", "\\xe"})
    EXPECT_THAT(error_of([&] { rendered("{{ '" + wrong + "' | upper }}"); }), HasSubstr("'" + wrong)) << wrong;
}

// Beyond the integers of 64 bits there is an end or an error, and nothing that C++ leaves open.
TEST(ChatTemplate, LargeNumbersAreCountedOrRefused) {
  const auto error = [](const std::string& source) { return error_of([&] { rendered(source); }); };
  const std::string large = "999999999999999999";
  EXPECT_EQ(rendered("{{ range(0, " + large + " * 9 + 1, " + large + ") | length }}"), "10");
  EXPECT_EQ(rendered("{{ range(0, 0 - " + large + " * 9 - 1, 0 - " + large + ") | length }}"), "10");
  EXPECT_THAT(error("{{ 'ten bytes.' * " + large + " }}"), HasSubstr("is too long"));
  EXPECT_EQ(rendered("<{{ 'ten bytes.' * (0 - " + large + ") }}>"), "<>");
  EXPECT_EQ(rendered("{{ 99999999999999.9 | int }} {{ -1.9 | int }}"), "99999999999999 -1");
  EXPECT_THAT(error("{{ (1000000000.0 * 1000000000.0 * 10) | int }}"), HasSubstr("is too large for an integer"));
  const std::string infinite =
      "{% set n = namespace(x=10.0) %}{% for i in range(400) %}{% set n.x = n.x * 10 %}{% endfor %}";
  EXPECT_EQ(rendered(infinite + "{{ n.x | int }} {{ n.x | int(7) }} {{ (n.x - n.x) | int }}"), "0 7 0");
}

TEST(ChatTemplate, WhatCannotBeComputedIsQuotedWithItsLine) {
  const auto error = [](const std::string& source) { return error_of([&] { rendered(source); }); };
  EXPECT_THAT(error("\n{{ missing.name }}"),
              AllOf(HasSubstr("test, line 2"), HasSubstr("'missing' is undefined and has no 'name'")));
  EXPECT_THAT(error("{{ 'a' + 1 }}"), HasSubstr("'+' cannot be done with a value of type str and a value of type int"));
  EXPECT_THAT(error("{{ raise_exception('not ' ~ 'so') }}"), HasSubstr("refuses this conversation: not so"));
  EXPECT_THAT(error("{{ 'a'.encode() }}"), HasSubstr("'encode' is no function or method that is supported"));
  EXPECT_THAT(error("{{ 1 // 0 }}"), HasSubstr("division by zero"));
  EXPECT_THAT(error("{{ range(1000000000) }}"), HasSubstr("more than 100000"));
  EXPECT_THAT(error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), HasSubstr("macros call each other"));
  EXPECT_THAT(error("{% set a = {} %}{% set a.b = 1 %}"), HasSubstr("'a' is no namespace"));
  EXPECT_THAT(error("{% set n = namespace() %}{% set n.me = [{'a': n}] %}{{ n }}"), HasSubstr("kept in a namespace"));
  EXPECT_THAT(error("{% set n = namespace(x=1) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor %}"),
              HasSubstr("more than 200 deep"));
  EXPECT_THAT(error("{{ ['a'] | map(filter='upper') }}"), HasSubstr("the filter of map is a string"));
  EXPECT_THAT(error("{{ ['a'] | selectattr(attribute='a') }}"), HasSubstr("the member of selectattr or rejectattr is a"));
  EXPECT_THAT(error_of([&] { rendered("", "{"); }), HasSubstr("messages: no JSON"));
}

}  // namespace muonp::test
