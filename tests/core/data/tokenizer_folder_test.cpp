// Tokenizers of Hugging Face folders, compared with the ids that the original libraries give (tests/fixtures/tokenizers).
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/data/tokenizer/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {
namespace {

using namespace muonp::core;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

using Ids = std::vector<std::int32_t>;

const std::string kFixtures = MUONP_FIXTURES "/tokenizers";
const std::vector<std::string> kFamilies = {"gpt2",   "prefix",  "smollm2", "llama3",       "qwen2",
                                            "llama2", "mistral", "mixed",   "sentencepiece"};

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

Ids ids_of(const std::string& line) {
  std::istringstream stream(line);
  return {std::istream_iterator<std::int32_t>(stream), {}};
}

// Other fixtures of the same form, made with more texts: MUONP_TOKENIZER_FIXTURES=FOLDER.
std::string fixtures() {
  const char* other = std::getenv("MUONP_TOKENIZER_FIXTURES");
  return other ? other : kFixtures;
}

class FolderTokenizer : public testing::TestWithParam<std::string> {
 protected:
  TokenizerHandle tokenizer_ = open_tokenizer(fixtures() + "/" + GetParam());
  std::vector<std::string> texts_ = parts_of(get(fixtures() + "/texts.txt"), '\x1e');
};

// A tokenizer.json with one thing changed.
class ChangedTokenizer : public testing::Test {
 protected:
  void change(const std::string& family, const std::string& from, const std::string& to) {
    std::string content = get(kFixtures + "/" + family + "/tokenizer.json");
    const std::size_t found = content.find(from);
    ASSERT_NE(found, std::string::npos) << from;
    put(folder_ / "tokenizer.json", content.replace(found, from.size(), to));
  }
  std::string error() const {
    return error_of([&] { open_tokenizer(folder_.path()); });
  }
  TemporaryFolder folder_;
};

}  // namespace

TEST_P(FolderTokenizer, GivesTheIdsOfTheOriginal) {
  const std::vector<std::string> lines = parts_of(get(fixtures() + "/" + GetParam() + "/ids.txt"), '\n');
  ASSERT_EQ(lines.size(), texts_.size());
  ASSERT_GE(texts_.size(), 160u);
  int different = 0;
  for (std::size_t i = 0; i < texts_.size() && different < 5; ++i) {
    const Ids ids = tokenizer_->encode(texts_[i]), expected = ids_of(lines[i]);
    different += ids != expected;
    EXPECT_EQ(ids, expected) << "text " << i << ": " << testing::PrintToString(texts_[i]);
  }
}

TEST_P(FolderTokenizer, PiecesAreWhatDecodingGives) {
  for (const std::string& text : texts_) {
    const Ids ids = tokenizer_->encode(text);
    std::string pieces;
    for (const std::int32_t id : ids) pieces += tokenizer_->piece(id);
    ASSERT_THAT(pieces, testing::EndsWith(tokenizer_->decode(ids)));
  }
  EXPECT_THAT(error_of([&] { tokenizer_->piece(-1); }), HasSubstr("no id -1"));
  EXPECT_THAT(error_of([&] { tokenizer_->is_special(100'000); }), HasSubstr("no id 100000"));
}

TEST_P(FolderTokenizer, ThreadsShareIt) {
  std::vector<std::string> expected;
  for (const std::string& text : texts_) expected.push_back(fmt::format("{}", tokenizer_->encode(text)));
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < texts_.size(); ++i)
        count += fmt::format("{}", tokenizer_->encode(texts_[i])) != expected[i];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

TEST_P(FolderTokenizer, CuttingWhereItMayBeCutChangesNothing) {
  std::string text;
  for (const std::string& part : texts_) text += part + (part.size() % 3 ? "\nand then " : " more words\n");
  text.resize(std::min<std::size_t>(text.size(), 20'000));
  const Ids whole = tokenizer_->encode(text);
  Ids parts;
  std::size_t begin = 0, cuts = 0;
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (!tokenizer_->may_cut(text, at)) continue;
    tokenizer_->encode_part(std::string_view(text).substr(begin, at - begin), begin == 0, Specials::parse, parts);
    begin = at;
    ++cuts;
  }
  tokenizer_->encode_part(std::string_view(text).substr(begin), begin == 0, Specials::parse, parts);
  EXPECT_EQ(parts, whole);
  EXPECT_GE(cuts, GetParam() == "mixed" ? 0u : 100u);  // whose tokens take white space with them
}

INSTANTIATE_TEST_SUITE_P(Families, FolderTokenizer, testing::ValuesIn(kFamilies),
                         [](const auto& test) { return test.param; });

TEST(FolderTokenizerText, ComesBackWhereNothingIsChanged) {
  for (const std::string family : {"gpt2", "smollm2", "llama3", "llama2", "mistral", "sentencepiece"}) {
    const TokenizerHandle tokenizer = open_tokenizer(kFixtures + "/" + family);
    for (const std::string text : {"plain words\n\n  and\tspace ", "中文 👩‍👩‍👧‍👦 é <s>", ""})
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << family;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xff\xe2\x96z")), "a\xef\xbf\xbd\xef\xbf\xbdz") << family;
    EXPECT_THAT(tokenizer->changes(), HasSubstr("U+FFFD"));
    const bool loses = tokenizer->changes().find("a text's first space is lost") != std::string::npos;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(" begins with one")), loses ? "begins with one" : " begins with one");
    EXPECT_EQ(loses, family == "mistral");
  }
  EXPECT_THAT(open_tokenizer(kFixtures + "/qwen2")->changes(), HasSubstr("Unicode NFC"));
  EXPECT_THAT(open_tokenizer("byte")->changes(), IsEmpty());
}

TEST(FolderTokenizerText, SpecialTokensAreParsedOrPlain) {
  const TokenizerHandle tokenizer = open_tokenizer(kFixtures + "/qwen2");
  const std::int32_t end = tokenizer->id_of("<|im_end|>"), call = tokenizer->id_of("<tool_call>");
  EXPECT_TRUE(tokenizer->is_special(end));
  EXPECT_FALSE(tokenizer->is_special(call));
  EXPECT_EQ(tokenizer->encode("<|im_end|>"), Ids{end});
  EXPECT_EQ(tokenizer->piece(end), "<|im_end|>");
  const Ids plain = tokenizer->encode("<|im_end|><tool_call>", Specials::plain);
  EXPECT_GT(plain.size(), 2u);
  EXPECT_EQ(plain.back(), call);
  EXPECT_EQ(tokenizer->decode(plain), "<|im_end|><tool_call>");
  EXPECT_EQ(tokenizer->id_of("no such token"), -1);
}

TEST(FolderTokenizerText, BeginAndEndAreThoseOfTheFolder) {
  const TokenizerHandle llama = open_tokenizer(kFixtures + "/llama3");
  EXPECT_EQ(llama->begin(), llama->id_of("<|begin_of_text|>"));
  EXPECT_TRUE(llama->adds_begin());
  EXPECT_EQ(llama->end(), -1);
  const TokenizerHandle model = open_tokenizer(kFixtures + "/sentencepiece");
  EXPECT_EQ(model->begin(), 1);
  EXPECT_EQ(model->end(), 2);
  TemporaryFolder folder;
  put(folder / "tokenizer.json", get(kFixtures + "/smollm2/tokenizer.json"));
  put(folder / "tokenizer_config.json",
      R"({"bos_token": null, "eos_token": {"content": "<|im_end|>"}, "added_tokens_decoder":
    {"5000": {"content": "<extra>", "special": true, "normalized": false}}})");
  const TokenizerHandle smol = open_tokenizer(folder.path());
  EXPECT_EQ(smol->begin(), -1);
  EXPECT_EQ(smol->end(), smol->id_of("<|im_end|>"));
  EXPECT_EQ(smol->encode("<extra>"), Ids{5000});
  EXPECT_EQ(smol->vocabulary(), 5001);
  EXPECT_THAT(tokenizer_files(folder.path()), testing::ElementsAre("tokenizer.json", "tokenizer_config.json"));
  put(folder / "tokenizer_config.json", R"({"eos_token": "</nothing>"})");
  EXPECT_THAT(error_of([&] { open_tokenizer(folder.path()); }), AllOf(HasSubstr("eos_token"), HasSubstr("</nothing>")));
}

TEST(FolderTokenizerText, LongWordsAreMergedAsShortOnesAre) {
  const TokenizerHandle tokenizer = open_tokenizer(kFixtures + "/gpt2");
  std::string text;
  for (int i = 0; i < 30'000; ++i) text += "the"[i % 3];
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  const Ids ids = tokenizer->encode(text.substr(0, 300)), start = tokenizer->encode(text.substr(0, 30));
  EXPECT_TRUE(std::equal(start.begin(), start.end() - 2, ids.begin()));  // 30 symbols are merged without a heap
}

TEST_F(ChangedTokenizer, WhatIsNotSupportedIsNamedWithItsPlace) {
  change("gpt2", R"("type":"ByteLevel")", R"("type":"UnicodeScripts")");
  EXPECT_THAT(error(), AllOf(HasSubstr("tokenizer.json: pre_tokenizer"), HasSubstr("UnicodeScripts is not supported")));
  change("qwen2", R"("type":"NFC")", R"("type":"BertNormalizer")");
  EXPECT_THAT(error(), AllOf(HasSubstr("normalizer"), HasSubstr("BertNormalizer is not supported")));
  change("gpt2", R"("type":"BPE")", R"("type":"WordPiece")");
  EXPECT_THAT(error(), HasSubstr("model.type WordPiece is not supported"));
  change("gpt2", R"("dropout":null)", R"("dropout":0.1)");
  EXPECT_THAT(error(), HasSubstr("model.dropout: 0.1 is not supported"));
  change("llama2", R"("type":"TemplateProcessing")", R"("type":"RobertaProcessing")");
  EXPECT_THAT(error(), HasSubstr("RobertaProcessing is not supported"));
  change("llama3", R"((?i:'s)", R"((?m:'s)");
  EXPECT_THAT(error(), AllOf(HasSubstr("pretokenizers[0].pattern.Regex"), HasSubstr("'(?m:' (character 1")));
  change("llama3", R"([^\\r\\n)", R"([^[:space:]\\r\\n)");
  EXPECT_THAT(error(), HasSubstr("'[:' (character"));
}

TEST_F(ChangedTokenizer, DamageIsNamed) {
  change("gpt2", R"("merges":[[)", R"("merges":[["nothing","at all"],[)");
  EXPECT_THAT(error(), AllOf(HasSubstr("model.merges[0]"), HasSubstr("'nothing', 'at all'")));
  change("gpt2", R"("!":)", R"("!":-)");
  EXPECT_THAT(error(), AllOf(HasSubstr(R"(model.vocab["!"])"), HasSubstr("is no id")));
  change("gpt2", R"({"id":0)", R"({"id":7)");
  EXPECT_THAT(error(), AllOf(HasSubstr("added_tokens[0]"), HasSubstr("has id 7, but 0")));
  put(folder_ / "tokenizer.json", get(kFixtures + "/gpt2/tokenizer.json").substr(0, 5000));
  EXPECT_THAT(error(), AllOf(HasSubstr("tokenizer.json"), HasSubstr("no JSON")));
  put(folder_ / "tokenizer.json", "{}");
  EXPECT_THAT(error(), HasSubstr("is no tokenizer.json"));
  std::filesystem::remove(folder_ / "tokenizer.json");
  EXPECT_THAT(error(), AllOf(HasSubstr("there is no tokenizer in this folder"), HasSubstr("tokenizer.model")));
  put(folder_ / "tokenizer.model", "none");
  EXPECT_THAT(error(), HasSubstr("tokenizer.model is no sentencepiece model"));
}

}  // namespace muonp::test
