#include "launch/records/metric_lines.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "core/base/error.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class MetricLinesTest : public test::FileTest {
 protected:
  static std::string line(int step, double loss) { return fmt::format("{{\"step\":{},\"loss\":{}}}\n", step, loss); }
  static std::string lines(int from, int to, double loss) {
    std::string text;
    for (int step = from; step <= to; ++step) text += line(step, loss);
    return text;
  }
  void append(const std::string& text) const { std::ofstream(path("m.jsonl"), std::ios::app) << text; }

  // Reads on; what the reader now has, as step to loss.
  std::vector<std::pair<double, double>> read(MetricLines& reader) {
    const auto forget = [this] {
      seen_.clear();
      ++forgotten_;
    };
    reader.read_on(forget, [this](const MetricLine& l) { seen_.emplace_back(l.step, *l.find("loss")); });
    return seen_;
  }

  std::vector<std::pair<double, double>> seen_;
  int forgotten_ = 0;
};

TEST_F(MetricLinesTest, ReadsOnWhereItStopped) {
  make("m.jsonl", line(1, 5) + line(2, 4) + "{\"step\":3,\"lo");
  MetricLines reader(path("m.jsonl"));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 5), Pair(2, 4)));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 5), Pair(2, 4)));
  append("ss\":3}\n" + line(4, 2));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 5), Pair(2, 4), Pair(3, 3), Pair(4, 2)));
  EXPECT_EQ(forgotten_, 0);
}

TEST_F(MetricLinesTest, OfStepsTrainedAgainTheLastCount) {
  // A crash after step 6, resumed from 3; then one after step 5, resumed from 2.
  make("m.jsonl", lines(1, 6, 1) + lines(4, 5, 2) + lines(3, 4, 3));
  MetricLines reader(path("m.jsonl"));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 3), Pair(4, 3)));
}

TEST_F(MetricLinesTest, TheSameStepAgainReplacesTheLast) {
  make("m.jsonl", line(1, 5) + line(2, 4) + line(2, 3));
  MetricLines reader(path("m.jsonl"));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 5), Pair(2, 3)));
}

TEST_F(MetricLinesTest, AValidationBelongsToItsStep) {
  make("m.jsonl", line(1, 5) + "{\"step\":1,\"val_loss\":4}\n{\"step\":1,\"checkpoint\":1}\n" + line(2, 3));
  int count = 0;
  MetricLines(path("m.jsonl")).read_on([] {}, [&](const MetricLine&) { ++count; });
  EXPECT_EQ(count, 4);
}

TEST_F(MetricLinesTest, ARestartSeenLaterTakesBackWhatWasGiven) {
  make("m.jsonl", lines(1, 6, 1));
  MetricLines reader(path("m.jsonl"));
  EXPECT_EQ(read(reader).size(), 6u);
  append(lines(4, 5, 2));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 1), Pair(4, 2), Pair(5, 2)));
  EXPECT_EQ(forgotten_, 1);
}

TEST_F(MetricLinesTest, AShorterFileIsAnotherOne) {
  make("m.jsonl", lines(1, 6, 1));
  MetricLines reader(path("m.jsonl"));
  read(reader);
  make("m.jsonl", lines(1, 3, 2));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 2), Pair(2, 2), Pair(3, 2)));
}

TEST_F(MetricLinesTest, StepsStandAnywhereInALine) {
  make("m.jsonl", "{ \"loss\": 1, \"step\": 1 }\n{ \"loss\": 2, \"step\": 2 }\n{ \"loss\": 3, \"step\": 2 }\n");
  MetricLines reader(path("m.jsonl"));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 1), Pair(2, 3)));
}

TEST_F(MetricLinesTest, WhatALineHas) {
  make(
      "m.jsonl",
      R"({"step":1,"a":null,"b":true,"c":-2.5e-3,"list":[1,{"x":2}],"note":"a \"b\"","m":{"w.0":{"kind":"w","r":7},"n":1},"z":3})"
      "\n");
  MetricLine line;
  MetricLines(path("m.jsonl")).read_on([] {}, [&](const MetricLine& l) { line = l; });
  EXPECT_TRUE(std::isnan(*line.find("a")));
  EXPECT_EQ(*line.find("b"), 1);
  EXPECT_EQ(*line.find("c"), -2.5e-3);
  EXPECT_EQ(*line.find("m.w.0.r"), 7);
  EXPECT_EQ(*line.find("m.n"), 1);
  EXPECT_EQ(*line.find("z"), 3);
  EXPECT_EQ(line.numbers.size(), 7u);
  EXPECT_THAT(line.texts, ElementsAre(Pair("note", "a \"b\""), Pair("m.w.0.kind", "w")));
}

TEST_F(MetricLinesTest, ADamagedLineIsNamed) {
  for (const char* damage : {"{\"step\":", "[1,2]", "7", "null", "", "{\"step\":3}}"}) {
    make("m.jsonl", line(1, 5) + damage + "\n" + line(3, 1));
    MetricLines reader(path("m.jsonl"));
    EXPECT_THAT(test::message_of<core::Error>([&] { read(reader); }), HasSubstr("m.jsonl:2: not a JSON object")) << damage;
  }
}

TEST_F(MetricLinesTest, NoFileYetIsNoLine) {
  MetricLines reader(path("m.jsonl"));
  EXPECT_THAT(read(reader), IsEmpty());
  make("m.jsonl", line(1, 5));
  EXPECT_THAT(read(reader), ElementsAre(Pair(1, 5)));
}

TEST_F(MetricLinesTest, LinesMayCrossTheBlocksOfAReading) {
  std::string text;
  for (int step = 1; step <= 40'000; ++step)
    text +=
        fmt::format("{{\"step\":{},\"loss\":{},\"note\":\"{}\"}}\n", step, step, std::string(std::size_t(step) % 97, 'x'));
  ASSERT_GT(text.size(), std::size_t{3} << 20);
  make("m.jsonl", text);
  MetricLines reader(path("m.jsonl"));
  const auto all = read(reader);
  ASSERT_EQ(all.size(), 40'000u);
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_THAT(all[i], Pair(i + 1, i + 1));
}

}  // namespace
}  // namespace muonp::launch
