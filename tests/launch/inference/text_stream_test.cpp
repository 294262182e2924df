#include "launch/inference/text_stream.h"

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/core/data/mark_tokenizer.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;

// What is shown byte by byte; bytes are tokens.
std::vector<std::string> shown(TextStream& stream, const std::string& text) {
  std::vector<std::string> parts;
  for (const char c : text) parts.push_back(stream.add(static_cast<unsigned char>(c)));
  return parts;
}

const test::MarkTokenizer kTokenizer(false);

TEST(TextStream, ShowsWholeCharacters) {
  TextStream stream(kTokenizer, {});
  EXPECT_THAT(shown(stream, "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"),
              ElementsAre("a", "", "\xC3\xA4", "", "", "\xE2\x82\xAC", "", "", "", "\xF0\x9F\x98\x80"));
  EXPECT_EQ(stream.rest(), "");
}

// A character that is never completed, and bytes that begin none, are not waited for longer than one could take.
TEST(TextStream, ShowsWhatIsNoUtf8) {
  TextStream stream(kTokenizer, {});
  EXPECT_THAT(shown(stream,
                    "\xE2\x82"
                    "a\x80\x80\xFF"),
              ElementsAre("", "",
                          "\xE2\x82"
                          "a",
                          "\x80", "\x80", ""));
  EXPECT_EQ(stream.rest(), "\xFF");
  EXPECT_EQ(stream.text(),
            "\xE2\x82"
            "a\x80\x80\xFF");
}

TEST(TextStream, StopsWhereverTokensEndAndShowsNothingOfTheStop) {
  TextStream stream(kTokenizer, {"END", "NEVER"});
  EXPECT_THAT(shown(stream, "aENEN"), ElementsAre("a", "", "", "E", "N"));
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.add('D'), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.add('x'), "");
  EXPECT_EQ(stream.text(), "aEN");
  EXPECT_EQ(stream.rest(), "");
}

// A tokenizer whose tokens are longer than a stop string, or end within it.
class WordTokenizer final : public core::Tokenizer {
 public:
  std::string name() const override { return "words"; }
  std::int64_t vocabulary() const override { return std::ssize(words_); }
  void encode_part(std::string_view, bool, core::Specials, std::vector<std::int32_t>&) const override {}
  std::string_view piece(std::int32_t id) const override { return words_[static_cast<std::size_t>(id)]; }
  std::int32_t id_of(std::string_view) const override { return -1; }
  std::uint64_t fingerprint() const override { return 1; }

 private:
  std::vector<std::string> words_ = {"one\n", "\ntwo", "three\n\nfour", "<|im_", "end|>"};
};

TEST(TextStream, StopsWithinAToken) {
  const WordTokenizer words;
  TextStream stream(words, {"\n\n"});
  EXPECT_EQ(stream.add(0), "one");
  EXPECT_EQ(stream.add(1), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.text(), "one");
  TextStream inside(words, {"\n\n"});
  EXPECT_EQ(inside.add(2), "three");
  EXPECT_TRUE(inside.stopped());
  TextStream earliest(words, {"four", "ee"});  // the first in the text, not in the list
  EXPECT_EQ(earliest.add(2), "thr");
}

TEST(TextStream, HoldsBackTheLongestBeginningAndGivesItBackAtTheEnd) {
  const WordTokenizer words;
  TextStream stream(words, {"<|im_end|>"});
  EXPECT_EQ(stream.add(3), "");
  EXPECT_EQ(stream.rest(), "<|im_");
  TextStream other(words, {"<|im_end|>"});
  other.add(3);
  EXPECT_EQ(other.add(4), "");
  EXPECT_TRUE(other.stopped());
  EXPECT_EQ(other.text(), "");
}

TEST(TextStream, SpecialAndUnknownIdsStandForNoText) {
  TextStream stream(kTokenizer, {});
  for (const std::int32_t id : {300, 302, -1, 9999}) EXPECT_EQ(stream.add(id), "");
  EXPECT_EQ(stream.text(), "");
}

TEST(TextStream, AnEmptyStopIsRefused) {
  check_stops({"a"});
  EXPECT_THROW(check_stops({"a", ""}), core::Error);
}

}  // namespace
}  // namespace muonp::launch
