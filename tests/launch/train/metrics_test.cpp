#include "launch/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "launch/train/run_history.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::HasSubstr;

class Metrics : public test::FileTest {};

TEST_F(Metrics, ALineIsOneObjectInTheGivenOrder) {
  EXPECT_EQ(metrics_line({{"step", std::int64_t{3}}, {"loss", 2.5}, {"skipped", true}, {"why", std::string("a \"b\"\n")}}),
            R"({"step":3,"loss":2.5,"skipped":true,"why":"a \"b\"\n"})");
}

TEST_F(Metrics, NumbersReadBackExactly) {
  const double values[] = {0.1, 1.0 / 3.0, 1e-300, 5e-324, -1.7976931348623157e308, std::nextafter(2.0, 3.0)};
  MetricsWriter writer(path("metrics.jsonl"), 1);
  for (const double value : values) writer.write({{"loss", value}});
  const auto lines = read_metrics(path("metrics.jsonl"));
  ASSERT_EQ(lines.size(), std::size(values));
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i].at("loss"), values[i]);
}

TEST_F(Metrics, NotANumberBecomesNullWithANote) {
  EXPECT_EQ(metrics_line({{"step", std::int64_t{1}},
                          {"loss", std::numeric_limits<double>::quiet_NaN()},
                          {"grad_norm", std::numeric_limits<double>::infinity()}}),
            R"({"step":1,"loss":null,"grad_norm":null,"note":"loss is nan; grad_norm is inf"})");
  EXPECT_EQ(metrics_line({{"loss", -std::numeric_limits<double>::quiet_NaN()}}), R"({"loss":null,"note":"loss is nan"})");
}

TEST_F(Metrics, EveryLineIsWrittenAtOnce) {
  MetricsWriter writer(path("m.jsonl"), 1);
  writer.write({{"step", std::int64_t{1}}});
  EXPECT_EQ(test::get(path("m.jsonl")), "{\"step\":1}\n");
  writer.write({{"step", std::int64_t{2}}});
  EXPECT_EQ(test::get(path("m.jsonl")), "{\"step\":1}\n{\"step\":2}\n");
}

TEST_F(Metrics, ResumingDropsWhatWillBeWrittenAgain) {
  make("m.jsonl",
       "{\"note\":\"no "
       "step\"}\n{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n{\"step\":2,\"val_loss\":2.5}\n"
       "{\"step\":3,\"loss\":1}\n{\"step\":4,\"lo");
  MetricsWriter writer(path("m.jsonl"), 3);
  writer.write({{"step", std::int64_t{3}}, {"loss", 0.5}});
  EXPECT_EQ(test::get(path("m.jsonl")),
            "{\"note\":\"no "
            "step\"}\n{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n{\"step\":2,\"val_loss\":2.5}\n"
            "{\"step\":3,\"loss\":0.5}\n");
  EXPECT_EQ(files(), 1u);  // no temporary is left
}

TEST_F(Metrics, ResumingKeepsTheTextOfLinesAsItIs) {
  const std::string lines = "{ \"loss\": 3.10000, \"step\": 1 }\n{\"step\": 2, \"loss\": 1e0}\n";
  make("m.jsonl", lines);
  MetricsWriter writer(path("m.jsonl"), 3);
  EXPECT_EQ(test::get(path("m.jsonl")), lines);
}

TEST_F(Metrics, ADamagedLineIsNamed) {
  make("m.jsonl", "{\"step\":1}\n{\"step\":\n{\"step\":3}\n");
  EXPECT_THAT(test::message_of<core::Error>([&] { MetricsWriter(path("m.jsonl"), 9); }),
              HasSubstr("m.jsonl:2: not a JSON object"));
  EXPECT_THAT(test::message_of<core::Error>([&] { read_metrics(path("m.jsonl")); }),
              HasSubstr("m.jsonl:2: not a JSON object"));
}

TEST_F(Metrics, AFolderThatDoesNotExistIsAnError) {
  EXPECT_THAT(test::message_of<core::Error>([&] { MetricsWriter(path("none/m.jsonl"), 1); }),
              HasSubstr("none/m.jsonl: cannot be opened"));
}

TEST_F(Metrics, AFullDiskIsAnError) {
  MetricsWriter writer(path("m.jsonl"), 1);
  writer.write({{"step", std::int64_t{1}}});
  const test::FileSizeLimit limit(16);
  EXPECT_THAT(test::message_of<core::Error>([&] {
                writer.write({{"step", std::int64_t{2}}});
              }),
              HasSubstr("m.jsonl: cannot be written"));
}

TEST_F(Metrics, ADeviceIsRefused) {
  EXPECT_THAT(test::message_of<core::Error>([] { MetricsWriter("/dev/zero", 1); }), HasSubstr("/dev/zero"));
}

class RunHistoryTest : public test::FileTest {
 protected:
  RunHistory run() const {
    std::string lines;
    for (int step = 1; step <= 40; ++step) {
      lines += fmt::format("{{\"step\":{},\"loss\":{},\"seconds\":{},\"tokens\":{}}}\n", step, 5.0 - step * 0.1, step * 0.5,
                           step * 100);
      if (step % 20 == 0) lines += fmt::format("{{\"step\":{},\"val_loss\":{}}}\n", step, step == 20 ? 2.0 : 2.25);
    }
    std::filesystem::create_directories(path("first"));
    make("first/metrics.jsonl", lines);
    return read_run(path("first/"));
  }
};

TEST_F(RunHistoryTest, SumsUpARun) {
  const RunHistory history = run();
  EXPECT_EQ(history.name, "first");
  const RunSummary s = summarize(history, "val_loss");
  EXPECT_EQ(s.steps, 40);
  EXPECT_EQ(s.seconds, 20);
  EXPECT_EQ(s.tokens, 4000);
  EXPECT_EQ(s.final_value, 2.25);
  EXPECT_EQ(s.best_value, 2.0);
  EXPECT_EQ(s.best_step, 20);
  EXPECT_DOUBLE_EQ(s.train_loss.value(), (1.1 + 1.0) / 2);  // the last 2 of 40 steps
}

TEST_F(RunHistoryTest, CurvesOverStepsTokensAndSeconds) {
  const RunHistory history = run();
  const auto over_tokens = curve(history, "val_loss", RunAxis::tokens);
  ASSERT_EQ(over_tokens.size(), 2u);
  EXPECT_EQ(over_tokens[0].x, 2000);  // of the training line before
  EXPECT_EQ(over_tokens[1].y, 2.25);
  EXPECT_EQ(curve(history, "loss", RunAxis::seconds).back().x, 20);
}

TEST_F(RunHistoryTest, WhatIsNotKnownYetIsEmpty) {
  EXPECT_THAT(test::message_of<core::Error>([&] { read_run(path("second")); }), HasSubstr("second: no such file"));
  std::filesystem::create_directories(path("empty"));
  for (const bool cut_off : {false, true}) {
    if (cut_off) make("empty/metrics.jsonl", "{\"step\"");
    const RunHistory history = read_run(path("empty"));
    EXPECT_EQ(history.name, "empty");
    const RunSummary s = summarize(history, "val_loss");
    EXPECT_FALSE(s.steps || s.seconds || s.final_value || s.best_value || s.best_step || s.train_loss);
  }
  make("empty/metrics.jsonl", "{\"step\":1,\"loss\":5}\n");
  const RunSummary s = summarize(read_run(path("empty")), "val_loss");
  EXPECT_EQ(s.steps, 1);
  EXPECT_EQ(s.train_loss, 5);
  EXPECT_FALSE(s.final_value || s.best_value);
}

TEST_F(RunHistoryTest, ARunThatDivergedDoesNotShowWhatItHadBefore) {
  std::filesystem::create_directories(path("diverged"));
  make("diverged/metrics.jsonl",
       "{\"step\":1,\"loss\":5.5}\n{\"step\":2,\"loss\":null,\"note\":\"loss is nan\"}\n{\"step\":2,\"val_loss\":null}\n");
  const RunHistory history = read_run(path("diverged"));
  const RunSummary s = summarize(history, "loss");
  EXPECT_TRUE(std::isnan(s.final_value.value()));
  EXPECT_EQ(s.best_value, 5.5);
  EXPECT_EQ(s.best_step, 1);
  EXPECT_TRUE(std::isnan(s.train_loss.value()));
  const RunSummary validation = summarize(history, "val_loss");
  EXPECT_TRUE(std::isnan(validation.final_value.value()));
  EXPECT_FALSE(validation.best_value);
}

}  // namespace
}  // namespace muonp::launch
