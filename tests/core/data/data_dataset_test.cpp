#include "core/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "core/base/error.h"
#include "core/data/encode_text.h"
#include "core/data/tokenizer/bpe_training.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string error_of(const std::function<void()>& f) { return message_of<Error>(f); }

DataConfig config_for(const std::string& train, std::int64_t sequence = 4) {
  DataConfig config;
  config.train = train;
  config.sequence = sequence;
  return config;
}

Dataset prepare_and_open(const DataConfig& config, const std::string& run, std::int64_t vocabulary = 256) {
  return open_dataset(config, prepare_dataset(config, run, vocabulary));
}

std::string error_with(const DataConfig& config, const std::string& run, std::int64_t vocabulary = 256) {
  return error_of([&] { prepare_and_open(config, run, vocabulary); });
}

std::string text_of(const Dataset& data, const TokenSource& source) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(source.size()));
  source.read(0, source.size(), ids.data());
  return data.tokenizer->decode(ids);
}

// 1000 bytes, each different from its neighbours.
std::string sample_text() {
  std::string text(1000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * i % 23);
  return text;
}

struct Batch {
  std::vector<std::int32_t> inputs, targets;
  Batch(std::int64_t count, std::int64_t sequence) : inputs(static_cast<std::size_t>(count * sequence)), targets(inputs) {}
};

}  // namespace

TEST(Dataset, SplitsTheLastPartOff) {
  const TemporaryFolder folder;
  put(folder / "text", sample_text());
  DataConfig config = config_for(folder / "text");
  config.validation_fraction = 0.1;
  const Dataset data = prepare_and_open(config, folder.path());
  EXPECT_EQ(text_of(data, data.train), sample_text().substr(0, 900));
  EXPECT_EQ(text_of(data, data.validation), sample_text().substr(900));
  config.validation_fraction = 0;
  EXPECT_EQ(prepare_and_open(config, folder.path()).train.size(), 1000);
  EXPECT_EQ(prepare_and_open(config, folder.path()).validation.size(), 0);
  config.validation = folder / "text";
  config.validation_fraction = 0.5;  // a file of its own: nothing is split off
  EXPECT_EQ(prepare_and_open(config, folder.path()).train.size(), 1000);
  EXPECT_EQ(prepare_and_open(config, folder.path()).validation.size(), 1000);
}

TEST(Dataset, FoldersAreReadInOrderOfTheirPaths) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "texts/b");
  put(folder / "texts/c", "ccccc");
  put(folder / "texts/a", "aaaaa");
  put(folder / "texts/b/1", "bbbbb");
  put(folder / "texts/.hidden", "#####");
  DataConfig config = config_for(folder / "texts");
  config.validation_fraction = 0;
  const Dataset data = prepare_and_open(config, folder.path());
  EXPECT_EQ(text_of(data, data.train), "aaaaabbbbbccccc");
}

TEST(Dataset, BadInputIsNamed) {
  const TemporaryFolder folder;
  put(folder / "three", "abc");
  put(folder / "empty", "");
  put(folder / "fifty", std::string(50, 'x'));
  std::filesystem::create_directories(folder / "none");
  std::filesystem::create_directories(folder / "mixed");
  put(folder / "mixed/a.bin", "aa");
  put(folder / "mixed/b.txt", "bb");
  const std::string run = folder.path();
  EXPECT_THAT(error_with(config_for(folder / "three", 128), run),
              HasSubstr("three has 3 tokens; one sequence of 128 (data.sequence) needs 129"));
  EXPECT_THAT(error_with(config_for(folder / "three", 3), run),
              HasSubstr("3 tokens; one sequence of 3 (data.sequence) needs 4"));
  EXPECT_THAT(error_with(config_for(folder / "fifty", 10), run),
              AllOf(HasSubstr("data.validation_fraction"), HasSubstr("has 5 tokens")));
  EXPECT_THAT(error_with(config_for(folder / "empty"), run), HasSubstr("data.train: " + (folder / "empty") + " is empty"));
  EXPECT_THAT(error_with(config_for(folder / "absent"), run),
              HasSubstr("data.train: there is no file or folder " + (folder / "absent")));
  EXPECT_THAT(error_with(config_for(""), run), HasSubstr("data.train is empty"));
  EXPECT_THAT(error_with(config_for(folder / "none"), run), HasSubstr("has no files"));
  EXPECT_THAT(error_with(config_for(folder / "mixed"), run),
              AllOf(HasSubstr("a.bin"), HasSubstr("b.txt"), HasSubstr("one kind")));
  DataConfig config = config_for(folder / "fifty");
  config.validation = folder / "three";
  EXPECT_THAT(error_with(config, run), HasSubstr("data.validation: " + (folder / "three") + " has 3 tokens"));
  config.validation = folder / "gone";
  EXPECT_THAT(error_with(config, run), HasSubstr("data.validation: there is no file"));
  config = config_for(folder / "fifty");
  config.tokenizer = folder / "gone.model";
  EXPECT_THAT(error_with(config, run), HasSubstr("gone.model: No such file"));
}

TEST(Dataset, IdsOutsideTheModelsVocabularyAreRefused) {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> ids(100, 7);
  ids[42] = 1234;
  put(folder / "x.bin", {reinterpret_cast<const char*>(ids.data()), 200});
  put(folder / "text", sample_text());
  EXPECT_THAT(error_with(config_for(folder / "x.bin"), folder.path(), 1000),
              HasSubstr("x.bin: id 1234 at position 42 is outside the model's vocabulary of 1000"));
  EXPECT_EQ(error_with(config_for(folder / "x.bin"), folder.path(), 1235), "");
  EXPECT_THAT(error_with(config_for(folder / "text"), folder.path(), 255),
              HasSubstr("the tokenizer byte has ids up to 255, outside the model's vocabulary of 255"));
}

TEST(Dataset, BytesNeedNoUtf8) {
  const TemporaryFolder folder;
  std::string text(300, '\xff');
  text[17] = '\0';
  put(folder / "x", text);
  const Dataset data = prepare_and_open(config_for(folder / "x"), folder.path());
  EXPECT_EQ(text_of(data, data.train) + text_of(data, data.validation), text);
}

TEST(Dataset, BpeTextIsEncodedOnce) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += i % 3 ? "and the king said unto " : "the house of the king\n";
  put(folder / "text", text);
  train_bpe({folder / "text"}, 290, folder / "bpe.model");
  DataConfig config = config_for(folder / "text", 16);
  config.tokenizer = folder / "bpe.model";
  config.cache = folder / "cache";
  EXPECT_THAT(error_of([&] {
                open_dataset(config, {folder / "absent.bin", ""});
              }),
              HasSubstr("is not there; rank 0 makes it"));
  EXPECT_THROW(open_dataset(config, {}), InternalError);
  EXPECT_THAT(error_with(config, folder.path(), 289), HasSubstr("has ids up to 289, outside the model's vocabulary of 289"));
  int said = 0;
  const auto say = [&](const std::string& line) {
    EXPECT_THAT(line, HasSubstr("encoding " + (folder / "text")));
    ++said;
  };
  prepare_dataset(config, folder.path(), 290, {.say = say});
  const TokenFiles known = TokenFiles::decode(prepare_dataset(config, folder.path(), 290, {.say = say}).encode());
  EXPECT_EQ(said, 1);
  std::filesystem::rename(folder / "text", folder / "away");  // who is told the token file does not read the text
  const Dataset data = open_dataset(config, known);
  std::filesystem::rename(folder / "away", folder / "text");
  EXPECT_EQ(text_of(data, data.train) + text_of(data, data.validation), text);
  EXPECT_LT(data.train.size(), static_cast<std::int64_t>(text.size()) / 3);
  put(folder / "text", text + "!");  // other content, other token file
  prepare_dataset(config, folder.path(), 290, {.say = say});
  EXPECT_EQ(said, 2);
  EXPECT_EQ(entries_in(folder / "cache"), 2);
}

TEST(Dataset, TextsLongerThanOnePartAreEncodedAsAWhole) {
  const TemporaryFolder folder;
  std::string text;
  while (text.size() < (9u << 20)) text += text.size() % 7 ? "a line of text\n" : "another, much the same\n";
  put(folder / "text", text);
  put(folder / "tail", std::string(100, 'z'));
  const TokenizerHandle bytes = make_byte_tokenizer();
  const std::int64_t count = tokenize_files(*bytes, {folder / "text", folder / "tail"}, folder / "t.bin", TokenFormat::llmc);
  EXPECT_EQ(count, static_cast<std::int64_t>(text.size()) + 100);
  const TokenSource source = TokenSource::from_token_files({folder / "t.bin"});
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  source.read(0, count, ids.data());
  EXPECT_EQ(bytes->decode(ids), text + std::string(100, 'z'));
}

TEST(Batches, TargetsAreTheNextTokens) {
  const TemporaryFolder folder;
  put(folder / "text", sample_text());
  const TrainBatches batches(make_windows(TokenSource::from_bytes({folder / "text"}), 8), 3, 1, true);
  EXPECT_EQ(batches.order().epoch_samples(), 124);  // 999 / 8
  Batch batch(3, 8);
  for (std::int64_t step = 0; step < 100; ++step) {
    batches.fill_batch(step, 0, 3, {batch.inputs, batch.targets});
    for (std::int64_t i = 0; i < 3; ++i) {
      const std::int64_t start = batches.order().place(step, i).index * 8;
      for (std::int64_t k = 0; k < 8; ++k) {
        ASSERT_EQ(batch.inputs[static_cast<std::size_t>(i * 8 + k)], sample_text()[static_cast<std::size_t>(start + k)]);
        ASSERT_EQ(batch.targets[static_cast<std::size_t>(i * 8 + k)],
                  sample_text()[static_cast<std::size_t>(start + k + 1)]);
      }
    }
  }
}

// Tokens count up, so that a target says where it came from.
TEST(Batches, Pitfall38_TheSetOfTokensOverAResumeWithAnotherWorldSizeIsExact) {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> ids(50 * 4 + 1);
  std::iota(ids.begin(), ids.end(), std::uint16_t{0});
  put(folder / "x.bin", {reinterpret_cast<const char*>(ids.data()), ids.size() * 2});
  const auto run = [&](std::int64_t first, std::int64_t last, std::int64_t ranks, std::vector<std::int32_t>& seen) {
    const TrainBatches batches(make_windows(TokenSource::from_token_files({folder / "x.bin"}), 4), 10, 3, true);
    for (std::int64_t step = first; step < last; ++step)
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const std::int64_t begin = 10 * rank / ranks, end = 10 * (rank + 1) / ranks;
        Batch batch(end - begin, 4);
        batches.fill_batch(step, begin, end - begin, {batch.inputs, batch.targets});
        for (const std::int32_t t : batch.targets) seen.push_back(t);
      }
  };
  std::vector<std::int32_t> uninterrupted, resumed;
  run(0, 10, 1, uninterrupted);
  run(0, 3, 4, resumed);
  run(3, 10, 3, resumed);
  EXPECT_EQ(resumed, uninterrupted);
  for (const auto& epoch : {std::pair{0, 200}, std::pair{200, 400}}) {
    std::vector<std::int32_t> once(resumed.begin() + epoch.first, resumed.begin() + epoch.second);
    std::sort(once.begin(), once.end());
    for (std::int32_t i = 0; i < 200; ++i) ASSERT_EQ(once[static_cast<std::size_t>(i)], i + 1);
  }
}

TEST(Batches, ValidationGoesThroughTheDataOnce) {
  const TemporaryFolder folder;
  put(folder / "text", sample_text().substr(0, 27));
  const ValidationBatches batches(make_windows(TokenSource::from_bytes({folder / "text"}), 5));
  ASSERT_EQ(batches.sequences(), 5);  // 26 / 5
  Batch batch(5, 5);
  batches.fill_batch(0, 5, {batch.inputs, batch.targets});
  for (std::size_t i = 0; i < 25; ++i) {
    EXPECT_EQ(batch.inputs[i], sample_text()[i]);
    EXPECT_EQ(batch.targets[i], sample_text()[i + 1]);
  }
  Batch wrong(4, 5);
  EXPECT_THROW(batches.fill_batch(0, 5, {wrong.inputs, batch.targets}), InternalError);
  EXPECT_THROW(batches.fill_batch(1, 5, {batch.inputs, batch.targets}), InternalError);
}

TEST(Batches, TooFewTokensAreAnError) {
  const TemporaryFolder folder;
  put(folder / "text", "abc");
  const TokenSource source = TokenSource::from_bytes({folder / "text"});
  EXPECT_THAT(error_of([&] { make_windows(source, 3); }), HasSubstr("the data has 3 tokens; one sequence of 3 needs 4"));
  EXPECT_EQ(make_windows(source, 2)->count(), 1);
  EXPECT_THAT(error_of([&] { make_windows(TokenSource(), 3); }), HasSubstr("has 0 tokens"));
}
