#include "launch/records/run_record.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>

#include "core/base/error.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RunRecordTest : public test::FileTest {
 protected:
  std::string run(const std::string& name, const std::string& metrics, const std::string& config = "") const {
    std::filesystem::create_directories(path(name));
    make(name + "/metrics.jsonl", metrics);
    if (!config.empty()) make(name + "/config.resolved.yaml", config);
    return path(name);
  }
};

TEST_F(RunRecordTest, SumsUpARun) {
  const std::string metrics =
      R"({"step":1,"loss":5,"seconds":2,"tokens":100,"step_seconds":2,"spectral_seconds":0.5,"communication_seconds":0.25}
{"step":2,"loss":4,"seconds":3,"tokens":200,"step_seconds":1,"skipped":true,"spike":true}
{"step":2,"val_loss":4.5,"seconds":3,"tokens":200,"sent_bytes":77}
{"step":3,"loss":3,"seconds":4,"tokens":300,"step_seconds":1,"skipped":false}
{"step":3,"checkpoint":2,"checkpoint_bytes":1000,"checkpoint_blocked_seconds":0.1,"checkpoint_total_seconds":0.2}
{"step":3,"val_loss":4.75}
)";
  const RunRecord r = read_run_record(run("one", metrics, "run: {name: one, steps: 3}\nlog: {every: 1}\n"));
  EXPECT_EQ(r.name, "one");
  EXPECT_EQ(r.planned_steps, 3);
  EXPECT_EQ(r.step, 3);
  EXPECT_EQ(r.seconds, 4);
  EXPECT_EQ(r.tokens, 300);
  EXPECT_EQ(r.sent_bytes, 77);
  EXPECT_EQ(*r.best_validation, (SeriesPoint{2, 4.5}));
  EXPECT_EQ(r.recent_loss.value(), 4);
  EXPECT_THAT(r.find("tokens_per_second")->extremes(),
              ElementsAre(SeriesPoint{1, 50}, SeriesPoint{2, 100}, SeriesPoint{3, 100}));
  EXPECT_EQ(r.find("other_seconds")->first().y, 1.25);
  EXPECT_EQ(r.phases.steps, 3);
  EXPECT_EQ(r.phases.step_seconds, 4);
  EXPECT_EQ(r.phases.spectral_seconds, 0.5);
  EXPECT_THAT(r.skipped.first, ElementsAre(2));
  EXPECT_THAT(r.spikes.first, ElementsAre(2));
  EXPECT_EQ(r.checkpoints.count, 1);
  EXPECT_THAT(*r.checkpoints.last, FieldsAre(2, 1000, 0.1, 0.2));
  EXPECT_EQ(r.find("checkpoint"), nullptr);
  EXPECT_EQ(r.settings.at("log.every"), "1");
}

TEST_F(RunRecordTest, TheMeanOfTheLastHundred) {
  RecentMean mean;
  EXPECT_TRUE(std::isnan(mean.value()));
  for (int i = 1; i <= 250; ++i) mean.add(i);
  EXPECT_EQ(mean.count(), 100u);
  EXPECT_DOUBLE_EQ(mean.value(), 200.5);
}

TEST_F(RunRecordTest, RatesOfAFileThatStartsAmidARunStartWithItsSecondLine) {
  const std::string metrics = R"({"step":8,"loss":5,"tokens":800,"step_seconds":1}
{"step":9,"loss":5,"tokens":900,"step_seconds":2}
)";
  EXPECT_THAT(read_run_record(run("one", metrics)).find("tokens_per_second")->extremes(), ElementsAre(SeriesPoint{9, 50}));
}

TEST_F(RunRecordTest, AReaderFollowsARun) {
  const std::string folder = run("one", R"({"step":1,"loss":5})"
                                        "\n"
                                        R"({"step":2,"loss":4})"
                                        "\n");
  RunReader reader(folder);
  EXPECT_EQ(reader.read_on().find("loss")->count(), 2);
  make("one/metrics.jsonl", "{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":4}\n{\"step\":3,\"loss\":3}\n");
  EXPECT_EQ(reader.read_on().find("loss")->count(), 3);
  make("one/metrics.jsonl", "{\"step\":1,\"loss\":7}\n");
  EXPECT_EQ(reader.read_on().find("loss")->last(), (SeriesPoint{1, 7}));
  EXPECT_EQ(reader.read_on().name, "one");
}

TEST_F(RunRecordTest, MatricesOfSpectraAreKnownByTheirKinds) {
  const std::string metrics =
      R"({"step":10,"spectra.b.w.momentum.stable_rank":3,"spectra":{"b.0.w":{"kind":"b.w","momentum":{"stable_rank":2}},)"
      R"("b.1.w":{"kind":"b.w","momentum":{"stable_rank":4}}}})"
      "\n";
  const RunRecord r = read_run_record(run("one", metrics));
  EXPECT_THAT(r.matrices, ElementsAre(FieldsAre("b.0.w", "b.w"), FieldsAre("b.1.w", "b.w")));
  EXPECT_EQ(r.find("spectra.b.1.w.momentum.stable_rank")->last().y, 4);
}

TEST_F(RunRecordTest, WhatCannotBeReadIsNamed) {
  const auto message = [&](const std::string& p) { return test::message_of<core::Error>([&] { read_run_record(p); }); };
  EXPECT_THAT(message(path("none")), HasSubstr("none: no such file; a run's folder or its metrics.jsonl is needed"));
  std::filesystem::create_directories(path("empty"));
  EXPECT_THAT(message(path("empty")), HasSubstr("empty: no run has written to this folder"));
  EXPECT_THAT(message(run("starting", "")), HasSubstr("there is nothing to show yet"));
  EXPECT_THAT(message(run("cut", "{\"step\":1")), HasSubstr("there is nothing to show yet"));
  EXPECT_THAT(message(run("bad", "{\"step\":1,\"loss\":1}\n", "a: [\n")), HasSubstr("bad/config.resolved.yaml"));
  run("start", "{\"step\":1,\"loss\":1}\n");
  make("start/start.json", "{\"device\":\"cpu\"}");
  EXPECT_THAT(message(path("start")), HasSubstr("start/start.json: the file is damaged"));
}

TEST(StartRecord, ReadsBackAsItWas) {
  StartRecord record{.device = "CPU \"a\"",
                     .ranks = "2 ranks",
                     .model = "GPT",
                     .data = "text",
                     .parameters = 5,
                     .step = 7,
                     .imbalance = 1.25,
                     .sent_bytes = 12.5};
  record.weights = record.gradients = record.optimizer = record.exchange = record.activations = record.snapshot = {1, 2};
  record.host = {0, 0};
  record.activations = {10, 1};
  record.load = {3e12, 1e12};
  record.matrices = {4, 5};
  const StartRecord again = parse_start_record(to_json(record));
  EXPECT_EQ(to_json(again), to_json(record));
  EXPECT_EQ(again.peak_bytes(0), 14);
  EXPECT_EQ(again.peak_bytes(1), 10);
  record.load.pop_back();
  EXPECT_THAT(test::message_of<core::Error>([&] { parse_start_record(to_json(record)); }), HasSubstr("ranks"));
  EXPECT_THAT(test::message_of<core::Error>([&] { parse_start_record("[]"); }), ::testing::Not(IsEmpty()));
}

}  // namespace
}  // namespace muonp::launch
