// JSONL files to files of examples: the same by any number of threads, what is broken named and counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/data/dataset.h"
#include "tests/support/temporary_folder.h"

using namespace muonp::core;
using namespace muonp::test;
using testing::AllOf;
using testing::HasSubstr;

namespace {

std::string pairs(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i)
    lines += fmt::format("{{\"prompt\": \"{}=\", \"completion\": \"{}\"}}\n", i,
                         std::string(static_cast<std::size_t>(1 + i % 20), 'x'));
  return lines;
}

DataConfig config_for(const std::string& train) {
  DataConfig config;
  config.train = train;
  config.sequence = 32;
  config.validation_fraction = 0;
  return config;
}

struct Prepared {
  Dataset data;
  std::string said;
};

Prepared prepare(const DataConfig& config, const std::string& folder, int threads = 1, std::int64_t vocabulary = 256) {
  Prepared prepared;
  const auto say = [&](const std::string& line) { prepared.said += line + "\n"; };
  const TokenFiles files = prepare_dataset(config, folder, vocabulary, {.say = say, .threads = threads});
  prepared.data = open_dataset(config, TokenFiles::decode(files.encode()));
  return prepared;
}

std::string refusal(const std::string& content, const std::function<void(DataConfig&)>& change = {}) {
  const TemporaryFolder folder;
  put(folder / "a.jsonl", content);
  DataConfig config = config_for(folder / "a.jsonl");
  if (change) change(config);
  const std::string message = message_of<Error>([&] { prepare(config, folder / "cache"); });
  EXPECT_TRUE(!std::filesystem::exists(folder / "cache") || entries_in(folder / "cache") == 0);
  return message;
}

}  // namespace

TEST(Finetuning, ThreadsChangeNothingAndAFileIsEncodedOnce) {
  const TemporaryFolder folder;
  put(folder / "a.jsonl", pairs(15000));  // several parts
  const DataConfig config = config_for(folder / "a.jsonl");
  const Prepared one = prepare(config, folder / "one", 1), four = prepare(config, folder / "four", 4);
  ASSERT_EQ(one.data.train_examples.front().store.size(), 15000);
  EXPECT_EQ(one.data.train_examples.front().store.hash(), four.data.train_examples.front().store.hash());
  EXPECT_EQ(get(one.data.train_examples.front().store.path()), get(four.data.train_examples.front().store.path()));
  EXPECT_THAT(one.said, HasSubstr("encoding"));
  EXPECT_EQ(prepare(config, folder / "one").said, "");
  DataConfig other = config;
  other.loss = "all";
  EXPECT_THAT(prepare(other, folder / "one").said, HasSubstr("encoding"));
  EXPECT_EQ(entries_in(folder / "one"), 2);
}

TEST(Finetuning, BrokenLinesAreNamedByFileAndLine) {
  const std::string broken = pairs(3) + "{\"prompt\"\n\n[]\n" + pairs(1) + "{}\n1\n2\n3\n4\n";
  EXPECT_THAT(refusal(broken), AllOf(HasSubstr("data.train: 7 broken lines"), HasSubstr("a.jsonl:4: no JSON"),
                                     HasSubstr("a.jsonl:6: it is a list"), HasSubstr("a.jsonl:8: it has none of"),
                                     HasSubstr("and 2 more"), HasSubstr("--skip-bad")));
  const TemporaryFolder folder;
  put(folder / "a.jsonl", broken);
  DataConfig config = config_for(folder / "a.jsonl");
  config.skip_bad = true;
  const Prepared prepared = prepare(config, folder.path());
  EXPECT_THAT(prepared.said, HasSubstr("left out 7 broken lines"));
  EXPECT_EQ(prepared.data.train_examples.front().store.size(), 4);
  EXPECT_THAT(prepared.data.description, HasSubstr("7 broken"));
}

TEST(Finetuning, LengthsAndKindsAreRefusedOrCounted) {
  const std::string lengthy = R"({"prompt": "a", "completion": ")" + std::string(50, 'b') + "\"}\n";
  const std::string prompt = R"({"completion": "a", "prompt": ")" + std::string(50, 'b') + "\"}\n";
  const auto rule = [](const char* name) { return [name](DataConfig& config) { config.too_long = name; }; };
  EXPECT_THAT(refusal(pairs(1) + lengthy, rule("error")),
              HasSubstr("a.jsonl:2: the example has 51 tokens, data.sequence allows 33"));
  EXPECT_THAT(refusal(lengthy, rule("drop")),
              AllOf(HasSubstr("not one valid example"), HasSubstr("1 longer than data.sequence")));
  EXPECT_THAT(refusal(prompt), AllOf(HasSubstr("not one valid example"), HasSubstr("1 whose prompt alone fills")));
  EXPECT_THAT(refusal(pairs(1) + "{\"text\": \"c\"}\n"),
              AllOf(HasSubstr("examples of several kinds"), HasSubstr("a.jsonl:1 has prompt and completion"),
                    HasSubstr("a.jsonl:2 has text")));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "assistant", "content": "b"}]})"), HasSubstr("there is no chat template"));
  const TemporaryFolder folder;
  put(folder / "a.jsonl", pairs(8) + lengthy + prompt);
  DataConfig config = config_for(folder / "a.jsonl");
  config.validation_fraction = 0.25;
  const Prepared prepared = prepare(config, folder.path());
  EXPECT_THAT(prepared.said, AllOf(HasSubstr("1 examples are cut to 33 tokens"), HasSubstr("their prompts alone fill")));
  EXPECT_EQ(prepared.data.train_examples.front().end, 7);  // of nine, two for validation
  EXPECT_EQ(prepared.data.validation_examples.front().begin, 7);
  EXPECT_EQ(prepared.data.validation_examples.front().end, 9);
}
