#include "core/data/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string header(std::int32_t magic, std::int32_t version, std::int32_t count) {
  std::vector<std::int32_t> words(256);
  words[0] = magic;
  words[1] = version;
  words[2] = count;
  return raw(words);
}

std::vector<std::int32_t> read_all(const TokenSource& source) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(source.size()));
  source.read(0, source.size(), ids.data());
  return ids;
}

using Ids = std::vector<std::int32_t>;

}  // namespace

TEST(TokenFile, ReadsEveryFormat) {
  const TemporaryFolder folder;
  put(folder / "nanogpt.bin", raw<std::uint16_t>({5, 0, 65535}));
  put(folder / "gpt2.bin", header(20240520, 1, 2) + raw<std::uint16_t>({50256, 7}));
  put(folder / "llama3.bin", header(20240801, 7, 2) + raw<std::uint32_t>({128000, 3}));
  put(folder / "text", std::string("A\xff\0", 3));
  EXPECT_EQ(read_all(TokenSource::from_token_files({folder / "nanogpt.bin"})), (Ids{5, 0, 65535}));
  EXPECT_EQ(read_all(TokenSource::from_token_files({folder / "gpt2.bin"})), (Ids{50256, 7}));
  EXPECT_EQ(read_all(TokenSource::from_token_files({folder / "llama3.bin"})), (Ids{128000, 3}));
  EXPECT_EQ(read_all(TokenSource::from_bytes({folder / "text"})), (Ids{65, 255, 0}));
}

TEST(TokenFile, WritesWhatLlmcAndNanogptRead) {
  const TemporaryFolder folder;
  const auto write = [&](TokenFormat format, std::int64_t vocabulary) {
    TokenFileWriter writer(folder / "x.bin", format, vocabulary);
    writer.write(Ids{1, 2});
    writer.write(Ids{});
    writer.write(Ids{300});
    EXPECT_EQ(writer.count(), 3);
    writer.commit();
    EXPECT_EQ(read_all(TokenSource::from_token_files({folder / "x.bin"})), (Ids{1, 2, 300}));
    return get(folder / "x.bin");
  };
  EXPECT_EQ(write(TokenFormat::nanogpt, 65536), raw<std::uint16_t>({1, 2, 300}));
  EXPECT_EQ(write(TokenFormat::llmc, 65536), header(20240520, 1, 3) + raw<std::uint16_t>({1, 2, 300}));
  EXPECT_EQ(write(TokenFormat::llmc, 65537), header(20240801, 7, 3) + raw<std::uint32_t>({1, 2, 300}));
  EXPECT_THAT(error_of([&] { TokenFileWriter(folder / "y.bin", TokenFormat::nanogpt, 65537); }),
              HasSubstr("a vocabulary of 65537 does not fit"));
  TokenFileWriter writer(folder / "x.bin", TokenFormat::llmc, 300);
  EXPECT_THROW(writer.write(Ids{300}), InternalError);
  EXPECT_THAT(error_of([] { parse_token_format("csv"); }), AllOf(HasSubstr("'csv'"), HasSubstr("nanogpt and llmc")));
}

TEST(TokenFile, ReadsAndSlicesOverSeveralFiles) {
  const TemporaryFolder folder;
  put(folder / "a", "abc");
  put(folder / "empty", "");
  put(folder / "b", "de");
  put(folder / "c", "f");
  const TokenSource source = TokenSource::from_bytes({folder / "a", folder / "empty", folder / "b", folder / "c"});
  ASSERT_EQ(source.size(), 6);
  for (std::int64_t first = 0; first <= 6; ++first)
    for (std::int64_t end = first; end <= 6; ++end) {
      Ids expected(static_cast<std::size_t>(end - first));
      std::iota(expected.begin(), expected.end(), static_cast<std::int32_t>('a' + first));
      Ids found(expected.size() + 1, -1);
      source.read(first, end - first, found.data());
      EXPECT_EQ(found.back(), -1);
      found.pop_back();
      EXPECT_EQ(found, expected);
      EXPECT_EQ(read_all(source.slice(first, end)), expected);
      EXPECT_EQ(read_all(source.slice(0, end).slice(first, end)), expected);
    }
  std::int32_t id;
  EXPECT_THROW(source.slice(0, 3).read(3, 1, &id), InternalError);
  EXPECT_EQ(TokenSource().size(), 0);
}

TEST(TokenFile, Pitfall14_PositionsPast2To31) {
  const TemporaryFolder folder;
  const std::int64_t ids = (std::int64_t{1} << 32) + 1000, marked = (std::int64_t{1} << 32) + 7;
  put(folder / "x.bin", "");
  std::error_code refused;  // the file is a hole but for one id
  std::filesystem::resize_file(folder / "x.bin", static_cast<std::uintmax_t>(2 * ids), refused);
  if (refused) GTEST_SKIP() << "no sparse file of 8 GiB can be made here: " << refused.message();
  std::fstream(folder / "x.bin", std::ios::in | std::ios::out | std::ios::binary).seekp(2 * marked).write("\x39\x05", 2);
  const TokenSource source = TokenSource::from_token_files({folder / "x.bin"});
  ASSERT_EQ(source.size(), ids);
  Ids found(3);
  source.read(marked - 1, 3, found.data());
  EXPECT_EQ(found, (Ids{0, 1337, 0}));
  source.slice(marked - 5, ids).read(4, 3, found.data());
  EXPECT_EQ(found, (Ids{0, 1337, 0}));
  EXPECT_THAT(error_of([&] { source.slice(marked - 5, ids).check_vocabulary(1337); }),
              HasSubstr("id 1337 at position 4294967303 "));
}

TEST(TokenFile, ContradictionsAreErrors) {
  const TemporaryFolder folder;
  const auto open = [&](const std::string& content) {
    put(folder / "x.bin", content);
    return error_of([&] { TokenSource::from_token_files({folder / "x.bin"}); });
  };
  EXPECT_EQ(open(header(20240520, 1, 0)), "");
  EXPECT_THAT(open(""), HasSubstr("x.bin is empty"));
  EXPECT_THAT(open("abc"), HasSubstr("its 3 bytes are no whole number of 16-bit ids"));
  EXPECT_THAT(open(header(20240520, 2, 1) + "ab"), HasSubstr("version 2 in its llm.c header; with magic 20240520 only 1"));
  EXPECT_THAT(open(header(20240801, 1, 1) + "abcd"), HasSubstr("with magic 20240801 only 7"));
  EXPECT_THAT(open(header(20240520, 1, 2) + "abc"), HasSubstr("its header says 2 ids of 2 bytes, it has 3 bytes"));
  EXPECT_THAT(open(header(20240520, 1, 2) + "abcdef"), HasSubstr("its header says 2 ids of 2 bytes, it has 6 bytes"));
  EXPECT_THAT(open(header(20240801, 7, -1) + "abcd"), HasSubstr("its header says 4294967295 ids"));
  EXPECT_THAT(open(header(20240522, 1, 1) + "ab"), HasSubstr("evaluation file"));
}

TEST(TokenFile, IdsOutsideTheVocabularyAreNamedWithTheirPosition) {
  const TemporaryFolder folder;
  put(folder / "a.bin", raw<std::uint16_t>({1, 2, 3}));
  put(folder / "b.bin", raw<std::uint16_t>({4, 500, 600, 5}));
  put(folder / "c.bin", header(20240801, 7, 2) + raw<std::uint32_t>({7, 4294967295u}));
  const TokenSource source = TokenSource::from_token_files({folder / "a.bin", folder / "b.bin"});
  EXPECT_EQ(error_of([&] { source.check_vocabulary(601); }), "");
  EXPECT_THAT(error_of([&] { source.check_vocabulary(600); }),
              AllOf(HasSubstr("b.bin: id 600 at position 2 is outside the model's vocabulary of 600")));
  EXPECT_THAT(error_of([&] { source.check_vocabulary(500); }),
              AllOf(HasSubstr("b.bin: id 500 at position 1"), HasSubstr("largest id in the file is 600")));
  EXPECT_THAT(error_of([&] { source.check_vocabulary(3); }), HasSubstr("a.bin: id 3 at position 2"));
  EXPECT_THAT(error_of([&] { TokenSource::from_token_files({folder / "c.bin"}).check_vocabulary(1 << 30); }),
              HasSubstr("c.bin: id 4294967295 at position 1"));
}

TEST(TokenSource, FingerprintIsOfTheIdsAndNotOfTheirFiles) {
  const TemporaryFolder folder;
  put(folder / "a", "some text");
  put(folder / "b", "of letters");
  put(folder / "wide.bin",
      header(20240801, 7, 19) + raw(std::vector<std::uint32_t>{'s', 'o', 'm', 'e', ' ', 't', 'e', 'x', 't', 'o', 'f', ' ',
                                                               'l', 'e', 't', 't', 'e', 'r', 's'}));
  const TokenSource bytes = TokenSource::from_bytes({folder / "a", folder / "b"});
  EXPECT_EQ(bytes.fingerprint(), TokenSource::from_token_files({folder / "wide.bin"}).fingerprint());
  EXPECT_NE(bytes.fingerprint(), TokenSource::from_bytes({folder / "b", folder / "a"}).fingerprint());
  EXPECT_NE(bytes.fingerprint(), bytes.slice(0, 18).fingerprint());
  EXPECT_EQ(bytes.slice(9, 19).fingerprint(), TokenSource::from_bytes({folder / "b"}).fingerprint());
  EXPECT_NE(TokenSource().fingerprint(), bytes.fingerprint());
}

TEST(TokenSource, FingerprintOfALongTextSeesItsEndsAndWhatIsShifted) {
  const TemporaryFolder folder;
  std::string text(TokenSource::kFingerprintIds + 100000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * i % 23);
  const auto fingerprint_of = [&](const std::string& content) {
    put(folder / "text", content);
    return TokenSource::from_bytes({folder / "text"}).fingerprint();
  };
  const std::uint64_t whole = fingerprint_of(text);
  for (const std::size_t at : {std::size_t{0}, text.size() - 1}) {
    std::string changed = text;
    changed[at] = '!';
    EXPECT_NE(fingerprint_of(changed), whole) << at;
  }
  EXPECT_NE(fingerprint_of("!" + text.substr(0, text.size() - 1)), whole);
}
