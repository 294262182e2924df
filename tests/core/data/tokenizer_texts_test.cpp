// Texts of other kinds than words with spaces between them: the program opens the models it makes of them, and every text
// comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include "core/base/rng.h"
#include "core/data/encode_text.h"
#include "core/data/tokenizer/bpe_training.h"
#include "core/data/tokenizer/tokenizer.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;

namespace {

// `count` draws from `pieces`, with `between` after every `width` of them.
std::string drawn(const std::vector<std::string>& pieces, std::size_t count, std::size_t width, const std::string& between,
                  std::uint64_t seed = 1) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += pieces[random_below(seed, 0, i, pieces.size())];
    if (i % width == width - 1) text += between;
  }
  return text;
}

const std::vector<std::string> kChinese = {"天", "地", "玄", "黄", "宇", "宙", "洪", "荒", "日", "月", "，", "。"};
const std::vector<std::string> kJapanese = {"これ", "は", "日本", "語", "の", "文", "です", "。", "カタ", "カナ"};
const std::vector<std::string> kThai = {"ภาษา", "ไทย", "ไม่", "มี", "ช่อง", "ว่าง", "ระหว่าง", "คำ"};
const std::vector<std::string> kWords = {"river", "stone", "light", "naïve", "water", "moon"};

struct Kind {
  std::string name, text;
  std::int64_t vocabulary;
};

std::vector<Kind> kinds() {
  return {{"DNA in lines of 60", drawn({"A", "C", "G", "T"}, 4500, 60, "\n"), 280},
          {"DNA in one line", drawn({"A", "C", "G", "T"}, 20000, 20000, ""), 280},
          {"Chinese", drawn(kChinese, 5000, 40, "\n"), 300},
          {"Japanese", drawn(kJapanese, 5000, 20, "\n"), 300},
          {"Thai", drawn(kThai, 5000, 15, "\n"), 320},
          {"one word a line", drawn(kWords, 3000, 1, "\n"), 290},
          {"Windows lines", drawn(kWords, 3000, 1, "\r\n"), 290},
          {"columns between tabs", drawn(kWords, 3000, 1, "\t"), 290},
          {"numbers between commas", drawn({"0", "1", "23", "456", "78"}, 3000, 1, ","), 275},
          {"hardly a space", drawn(kWords, 9000, 3000, " "), 290},
          {"no-break spaces", drawn(kWords, 3000, 1, "\xc2\xa0"), 290},
          {"words", drawn(kWords, 3000, 1, " "), 300}};
}

// Text that has everything, valid UTF-8 or not, mixed by chance.
std::string mixture(std::uint64_t seed) {
  static const std::vector<std::string> kParts = {" ",
                                                  "  ",
                                                  "\n",
                                                  "\t",
                                                  "\r\n",
                                                  "A",
                                                  "GATTACA",
                                                  "天地",
                                                  "です",
                                                  "ไม่",
                                                  "\xc2\xa0",
                                                  "\xe3\x80\x80",
                                                  "\xe2\x96\x81",
                                                  "\xe2\x96\x85",
                                                  "\xef\xbf\xbd",
                                                  "\xff",
                                                  "\xe2\x96",
                                                  std::string(1, '\0'),
                                                  "<0x20>",
                                                  "<unk>",
                                                  "😀",
                                                  "e\xcc\x81",
                                                  "\xef\xbb\xbf"};
  std::string text;
  for (std::uint64_t i = 0; i < 40; ++i) {
    const std::uint64_t part = random_below(seed, 1, i, 2 * kParts.size());
    text += part < kParts.size() ? kParts[part] : std::string(1, static_cast<char>(random_below(seed, 2, i, 256)));
  }
  return text;
}

}  // namespace

TEST(TokenizerOfAnyText, OpensItsOwnModelsAndGivesEveryTextBack) {
  const TemporaryFolder folder;
  for (const Kind& kind : kinds()) {
    put(folder / "text", kind.text);
    train_bpe({folder / "text"}, kind.vocabulary, folder / "bpe.model");
    const TokenizerHandle tokenizer = open_tokenizer(folder / "bpe.model");
    EXPECT_LT(tokenizer->encode(kind.text).size(), kind.text.size() * 3 / 4) << kind.name;
    std::vector<std::string> texts = {kind.text, " ", "   ", " a", "a ", "a  b \n c", ""};
    for (const Kind& other : kinds()) texts.push_back(other.text.substr(0, 999));
    for (std::uint64_t seed = 0; seed < 200; ++seed) texts.push_back(mixture(seed));
    for (const std::string& text : texts) ASSERT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << kind.name;
  }
}

TEST(TokenizerOfAnyText, ASpaceThatTheModelLacksIsItsByte) {
  const TemporaryFolder folder;
  put(folder / "text", drawn({"A", "C", "G", "T"}, 4500, 60, "\n"));
  train_bpe({folder / "text"}, 280, folder / "bpe.model");
  const TokenizerHandle tokenizer = open_tokenizer(folder / "bpe.model");
  const std::vector<std::int32_t> ids = tokenizer->encode(" ");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_EQ(tokenizer->piece(ids[0]), " ");
}

// Every line is a word that was not seen before.
TEST(TokenizerOfAnyText, MemoryDoesNotGrowWithTheText) {
  const TemporaryFolder folder;
  put(folder / "text", drawn({"A", "C", "G", "T"}, 4'000'000, 60, "\n"));
  put(folder / "sample", drawn({"A", "C", "G", "T"}, 4500, 60, "\n"));
  train_bpe({folder / "sample"}, 280, folder / "bpe.model");
  const TokenizerHandle tokenizer = open_tokenizer(folder / "bpe.model");
  const auto used = [] { return ::mallinfo2().uordblks; };
  const std::size_t before = used();
  count_tokens(*tokenizer, {folder / "text"});
  EXPECT_LT(used(), before + (24u << 20));
}
