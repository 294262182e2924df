// What lies in a folder of data and is no data is refused by name.
#include "core/data/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/data/encode_text.h"
#include "core/data/file_format.h"
#include "core/data/tokenizer/bpe_training.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

std::string problem_with(const std::string& path) {
  return error_of([&] { data_files(path, "data.train"); });
}

std::string bytes(std::string_view head, std::size_t size = 600) {
  std::string content(head);
  content.resize(std::max(size, content.size()), 'x');
  return content;
}

template <class T>
std::string raw(std::size_t count, std::uint64_t vocabulary) {
  std::string content;
  for (std::uint64_t i = 0; i < count; ++i) {
    // Small ids are more frequent, as in text.
    const auto id = static_cast<T>(random_below(3, random_below(4, 0, i, vocabulary), i, vocabulary));
    content.append(reinterpret_cast<const char*>(&id), sizeof(T));
  }
  return content;
}

#define BYTES(text) std::string_view(text, sizeof(text) - 1)

// First bytes as the programs that own them write them, and a word of the message.
const std::vector<std::pair<std::string, std::string>> kFormats = {
    {bytes(BYTES("\x93NUMPY\x01\x00v\x00{'descr': '<f4'")), "NumPy array"},
    {bytes(BYTES("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")), "gzip"},
    {bytes(BYTES("(\xb5/\xfd\x04X")), "zstd"},
    {bytes(BYTES("\xfd"
                 "7zXZ\x00\x00\x04")),
     "xz"},
    {bytes(BYTES("BZh91AY&SY")), "bzip2"},
    {bytes(BYTES("\x04\x22\x4d\x18\x64\x40")), "lz4"},
    {bytes(BYTES("PK\x03\x04\x14\x00")), ".pt"},
    {bytes(BYTES("7z\xbc\xaf\x27\x1c\x00\x04")), "7z"},
    {bytes(std::string(257, 'a') + "ustar\0" + "00"), "tar archive"},
    {bytes(std::string(BYTES("\x50\x00\x00\x00\x00\x00\x00\x00")) + "{\"__metadata__\":{}"), "safetensors"},
    {bytes(BYTES("\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02\x0a\x0f\x0a\x06<0x00>")), "data.tokenizer"},
    {bytes(BYTES("\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00]")), "pickle"},
    {bytes(BYTES("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20")), "PyTorch"},
    {bytes(BYTES("\x89HDF\r\n\x1a\n")), "HDF5"},
    {bytes(BYTES("PAR1\x15\x04")), "Parquet"},
    {bytes(BYTES("ARROW1\x00\x00\xff\xff\xff\xff")), "Arrow"},
    {bytes(BYTES("\xff\xff\xff\xff\x88\x01\x00\x00\x10\x00\x00\x00\x00\x00\x0a\x00")), "Arrow stream"},
    {bytes(BYTES("SQLite format 3\x00\x10")), "SQLite"},
    {bytes(BYTES("\x89PNG\r\n\x1a\n\x00\x00")), "PNG"},
    {bytes(BYTES("\xff\xd8\xff\xe0\x00\x10JFIF")), "JPEG"},
    {bytes(BYTES("%PDF-1.7\n")), "PDF"},
    {bytes(BYTES("\x7f"
                 "ELF\x02\x01\x01")),
     "ELF"},
    {bytes(BYTES("GGUF\x03\x00\x00\x00\x10")), "GGUF"}};

}  // namespace

TEST(DataFiles, KnownFormatsAreRefusedByName) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "corpus");
  put(folder / "corpus/a", "text");
  for (const auto& [content, word] : kFormats)
    for (const std::string name : {"corpus/b", "b.bin"}) {
      put(folder / name, content);
      EXPECT_THAT(problem_with(folder / (name == "b.bin" ? name : "corpus")),
                  AllOf(HasSubstr("data.train: " + (folder / name) + " is "), HasSubstr(word)));
    }
  // Also where only text is asked for.
  EXPECT_THAT(error_of([&] { text_files_of(folder / "corpus", "--in"); }), HasSubstr("--in: " + (folder / "corpus/b")));
}

TEST(DataFiles, TheProgramsOwnFilesAreKnown) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 500; ++i) text += "the king of the house and the water\n";
  put(folder / "text", text);
  train_bpe({folder / "text"}, 280, folder / "bpe.model");
  EXPECT_THAT(problem_with(folder / "bpe.model"), HasSubstr("a tokenizer model, which is not read as text; it belongs"));
  tokenize_files(*open_tokenizer(folder / "bpe.model"), {folder / "text"}, folder / "tokens", TokenFormat::llmc);
  EXPECT_THAT(problem_with(folder / "tokens"), HasSubstr("give it a name that ends in .bin"));
  std::filesystem::rename(folder / "tokens", folder / "tokens.bin");
  EXPECT_EQ(problem_with(folder / "tokens.bin"), "");
}

TEST(DataFiles, WideTextsAreNoUtf8) {
  const TemporaryFolder folder;
  put(folder / "a", bytes(BYTES("\xff\xfet\x00h\x00")));
  EXPECT_THAT(problem_with(folder / "a"), AllOf(HasSubstr("UTF-16"), HasSubstr("iconv")));
}

TEST(DataFiles, TextThatBeginsLikeSomethingElseIsText) {
  const TemporaryFolder folder;
  for (const std::string_view text :
       {"PK is a name", "BZh is no word", "RIFF of the sea, WAVE after wave",
        "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", "GGUF", "PAR 1", "%PDX", "\xef\xbb\xbfmarked as UTF-8", "",
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}) {
    put(folder / "a", text);
    EXPECT_EQ(problem_with(folder / "a"), "") << text;
  }
}

TEST(DataFiles, LinksThatLeadNowhereOrBackAreNamed) {
  const TemporaryFolder folder;
  namespace fs = std::filesystem;
  fs::create_directories(folder / "corpus/part");
  put(folder / "corpus/a", "text");
  fs::create_symlink("../gone.txt", folder / "corpus/shard");
  EXPECT_THAT(problem_with(folder / "corpus"),
              HasSubstr("data.train: " + (folder / "corpus/shard") + " is a link that leads nowhere (to ../gone.txt)"));
  EXPECT_THAT(problem_with(folder / "corpus/shard"), HasSubstr("leads nowhere"));
  fs::remove(folder / "corpus/shard");
  fs::create_symlink("b", folder / "corpus/b");  // to itself
  EXPECT_THAT(problem_with(folder / "corpus"), HasSubstr("corpus/b is a link that leads nowhere"));
  fs::remove(folder / "corpus/b");
  for (const std::string up : {".", "..", "../part", "../.."}) {
    fs::create_symlink(up, folder / "corpus/part/up");
    EXPECT_THAT(problem_with(folder / "corpus"), HasSubstr("corpus/part/up is a link that leads back to")) << up;
    fs::remove(folder / "corpus/part/up");
  }
  // By way of another folder.
  fs::create_directories(folder / "other");
  fs::create_symlink("../other", folder / "corpus/there");
  fs::create_symlink("../corpus", folder / "other/back");
  EXPECT_THAT(problem_with(folder / "corpus"), HasSubstr("corpus/there/back is a link that leads back to"));
}

TEST(DataFiles, LinksToFilesAndFoldersAreFollowed) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "corpus");
  std::filesystem::create_directories(folder / "elsewhere/deep");
  put(folder / "elsewhere/deep/x", "x");
  put(folder / "file", "y");
  put(folder / "corpus/.hidden", "#");
  std::filesystem::create_symlink("../elsewhere", folder / "corpus/b");
  std::filesystem::create_symlink(folder / "file", folder / "corpus/a");
  EXPECT_THAT(data_files(folder / "corpus/", "data.train"), ElementsAre(folder / "corpus/a", folder / "corpus/b/deep/x"));
}

TEST(DataFiles, WhatIsNoFileIsNamed) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "corpus");
  put(folder / "corpus/a", "text");
  ASSERT_EQ(::mkfifo((folder / "corpus/pipe").c_str(), 0600), 0);
  EXPECT_THAT(problem_with(folder / "corpus"), HasSubstr("corpus/pipe is no regular file"));
  EXPECT_THAT(problem_with("/dev/null"), HasSubstr("/dev/null is no regular file"));
}

TEST(RawIds, IdsOfMoreBitsAndTextAreRefused) {
  const TemporaryFolder folder;
  const auto open = [&](const std::string& content) {
    put(folder / "x.bin", content);
    return error_of([&] { TokenSource::from_token_files({folder / "x.bin"}); });
  };
  for (const std::uint64_t vocabulary : {200, 1024, 50257, 128'000}) {
    EXPECT_THAT(open(raw<std::int32_t>(1000, vocabulary)), AllOf(HasSubstr("x.bin"), HasSubstr("ids of 32 bits")));
    EXPECT_THAT(open(raw<std::int64_t>(1000, vocabulary)), HasSubstr("ids of 64 bits"));
  }
  EXPECT_THAT(open("A text in a file that somebody has called x.bin."), HasSubstr("its bytes are text"));
  EXPECT_THAT(open("天地玄黄宇宙洪荒日月盈昃辰宿列张"), HasSubstr("its bytes are text"));
  for (const std::uint64_t vocabulary : {4, 65, 256, 1024, 50257, 65535})
    EXPECT_EQ(open(raw<std::uint16_t>(5000, vocabulary)), "") << vocabulary;
  EXPECT_EQ(open(std::string(2000, '\0')), "");
}
