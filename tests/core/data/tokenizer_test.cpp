#include "core/data/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/base/utf8.h"
#include "core/data/tokenizer/bpe_training.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

// English-like text: words drawn with unequal frequencies.
std::string sample_text(std::size_t lines) {
  const std::vector<std::string> words{"the",
                                       "and",
                                       "of",
                                       "unto",
                                       "house",
                                       "king",
                                       "Jerusalem",
                                       "water",
                                       "said",
                                       "wherefore",
                                       "children",
                                       "mountain",
                                       "\xc3\xa9t\xc3\xa9",
                                       "naïve",
                                       "answered",
                                       "seventy"};
  std::string text;
  for (std::uint64_t line = 0; line < lines; ++line) {
    for (std::uint64_t w = 0; w < 12; ++w) {
      const std::uint64_t a = random_below(1, line, 2 * w, words.size()), b = random_below(1, line, 2 * w + 1, words.size());
      text += (w ? " " : "") + words[std::min(a, b)];
    }
    text += ".\n";
  }
  return text;
}

class Bpe : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    put(*folder_ / "text", sample_text(3000));
    train_bpe({*folder_ / "text"}, 340, *folder_ / "bpe.model");
    tokenizer_ = new TokenizerHandle(open_tokenizer(*folder_ / "bpe.model"));
  }
  static void TearDownTestSuite() {
    delete tokenizer_;
    delete folder_;
  }
  static const Tokenizer& tokenizer() { return **tokenizer_; }
  static void expect_lossless(const std::string& text) {
    const std::vector<std::int32_t> ids = tokenizer().encode(text);
    EXPECT_TRUE(std::all_of(ids.begin(), ids.end(), [](std::int32_t id) { return id > 0 && id < 340; }));
    EXPECT_EQ(tokenizer().decode(ids), text);
  }
  inline static TemporaryFolder* folder_ = nullptr;
  inline static TokenizerHandle* tokenizer_ = nullptr;
};

}  // namespace

TEST(Utf8, AcceptsExactlyTheValidCharacters) {
  const auto length = [](const char* text) { return utf8_length(text); };
  EXPECT_EQ(length("a"), 1u);
  EXPECT_EQ(length("\xc2\x80"), 2u);
  EXPECT_EQ(length("\xe0\xa0\x80"), 3u);
  EXPECT_EQ(length("\xed\x9f\xbf"), 3u);
  EXPECT_EQ(length("\xef\xbf\xbd"), 3u);
  EXPECT_EQ(length("\xf0\x90\x80\x80"), 4u);
  EXPECT_EQ(length("\xf4\x8f\xbf\xbf"), 4u);
  for (const char* bad : {"", "\x80", "\xc2", "\xc2z", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xe2\x96", "\xed\xa0\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"})
    EXPECT_EQ(length(bad), 0u) << bad;
  EXPECT_EQ(utf8_cut("a\xe2\x96\x81z", 3), 1u);
  EXPECT_EQ(utf8_cut("a\xe2\x96\x81z", 4), 4u);
  EXPECT_EQ(utf8_cut("ab", 9), 2u);
}

TEST(ByteTokenizer, IsTheBytes) {
  const TokenizerHandle bytes = open_tokenizer("byte");
  EXPECT_EQ(bytes->vocabulary(), 256);
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::vector<std::int32_t> ids = bytes->encode(all);
  for (std::int32_t i = 0; i < 256; ++i) EXPECT_EQ(ids[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(bytes->decode(ids), all);
  EXPECT_THAT(error_of([&] { bytes->piece(256); }), HasSubstr("no id 256"));
  EXPECT_THAT(error_of([&] { bytes->piece(-1); }), HasSubstr("no id -1"));
}

TEST_F(Bpe, LearnsTheVocabularyAskedFor) {
  EXPECT_EQ(tokenizer().vocabulary(), 340);
  const std::string text = get(*folder_ / "text");
  const std::vector<std::int32_t> ids = tokenizer().encode(text);
  EXPECT_LT(ids.size(), text.size() / 3);  // frequent words are one piece
  EXPECT_EQ(tokenizer().encode(" Jerusalem").size(), 1u);
}

TEST_F(Bpe, EveryTextComesBack) {
  expect_lossless("");
  expect_lossless(get(*folder_ / "text"));
  expect_lossless("plain words, UPPER and lower\n");
  expect_lossless("\n\n  two leading spaces\n\ttab\t\r\nmany      spaces   \n \n");
  expect_lossless(
      "Fran\xc3\xa7"
      "ais \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80 e\xcc\x81 \xef\xac\x81 \xe2\x91\xa0 \xc2\xa0nbsp "
      "\xe3\x80\x80wide");
  expect_lossless(
      "\xe2\x96\x81 the space mark itself \xe2\x96\x81\xe2\x96\x81, \xe2\x96\x85, \xef\xbf\xbd, <0x0A> <unk> "
      "<s> </s>");
  expect_lossless(std::string("NUL \0 inside, \0\0 and at the end \0", 34));
  expect_lossless("broken \xff\xfe UTF-8 \xe2\x96 \xc3 \xed\xa0\x80 \xf0\x9f\x98");
  expect_lossless("\xe2\x96");
  for (std::uint64_t i = 0; i < 200; ++i) {
    std::string noise(random_below(5, i, 0, 60), '\0');
    for (std::size_t k = 0; k < noise.size(); ++k) {
      const char* common =
          " \n\xe2\x96\x81"
          "aet";
      const std::uint64_t draw = random_below(5, i, k + 1, 300);
      noise[k] = draw < 256 ? static_cast<char>(draw) : common[draw % 8];
    }
    expect_lossless(noise);
  }
}

TEST_F(Bpe, LongRunsWithoutSpacesComeBack) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "\xe4\xb8\xad";
  expect_lossless(text + std::string(200'000, 'x') + std::string(100'000, ' '));
}

TEST_F(Bpe, CuttingAtALineEndChangesNothing) {
  const std::string text = get(*folder_ / "text").substr(0, 5000);
  const std::vector<std::int32_t> whole = tokenizer().encode(text);
  for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 1)) {
    std::vector<std::int32_t> parts = tokenizer().encode(text.substr(0, at + 1));
    const std::vector<std::int32_t> second = tokenizer().encode(text.substr(at + 1));
    parts.insert(parts.end(), second.begin(), second.end());
    ASSERT_EQ(parts, whole);
  }
}

TEST_F(Bpe, TrainingIsReproducible) {
  train_bpe({*folder_ / "text"}, 340, *folder_ / "again.model");
  EXPECT_EQ(open_tokenizer(*folder_ / "again.model")->fingerprint(), tokenizer().fingerprint());
  train_bpe({*folder_ / "text"}, 341, *folder_ / "other.model");
  EXPECT_NE(open_tokenizer(*folder_ / "other.model")->fingerprint(), tokenizer().fingerprint());
}

TEST_F(Bpe, SamplesLongTexts) {
  train_bpe({*folder_ / "text"}, 330, *folder_ / "sampled.model", 20'000);
  EXPECT_EQ(open_tokenizer(*folder_ / "sampled.model")->vocabulary(), 330);
}

TEST_F(Bpe, ImpossibleVocabulariesSayWhatIsPossible) {
  const auto train = [&](std::int64_t vocabulary) {
    return error_of([&] { train_bpe({*folder_ / "text"}, vocabulary, *folder_ / "x.model"); });
  };
  EXPECT_THAT(train(256), HasSubstr("a vocabulary of 256 is not possible: 257 pieces are reserved"));
  EXPECT_THAT(train(258), AllOf(HasSubstr("258 pieces"), HasSubstr("characters alone take 2")));
  EXPECT_THAT(train(100'000), AllOf(HasSubstr("100000 pieces"), HasSubstr("its words give no more than ")));
  EXPECT_FALSE(std::filesystem::exists(*folder_ / "x.model"));
  put(*folder_ / "nothing", std::string("\n\n\xff\t\0", 5));
  EXPECT_THAT(error_of([&] { train_bpe({*folder_ / "nothing"}, 300, *folder_ / "x.model"); }), HasSubstr("no UTF-8 text"));
  EXPECT_THAT(error_of([&] { train_bpe({*folder_ / "absent"}, 300, *folder_ / "x.model"); }),
              HasSubstr("absent: No such file"));
}

TEST_F(Bpe, OtherFilesAreNoModels) {
  put(*folder_ / "bad", "");
  EXPECT_THAT(error_of([&] { open_tokenizer(*folder_ / "bad"); }), HasSubstr("bad is not a tokenizer model"));
  put(*folder_ / "bad", "some text that is no model");
  EXPECT_THAT(error_of([&] { open_tokenizer(*folder_ / "bad"); }), HasSubstr("bad is not a tokenizer model"));
  EXPECT_THAT(error_of([&] { open_tokenizer(*folder_ / "absent"); }), HasSubstr("absent: No such file"));
  const std::string model = get(*folder_ / "bpe.model");
  put(*folder_ / "bad", model.substr(0, model.size() / 2));
  EXPECT_NE(error_of([&] { open_tokenizer(*folder_ / "bad"); }), "");
  EXPECT_THAT(error_of([&] {
                tokenizer().decode(std::vector<std::int32_t>{1, 340});
              }),
              AllOf(HasSubstr("bpe.model has no id 340"), HasSubstr("0 to 339")));
}
