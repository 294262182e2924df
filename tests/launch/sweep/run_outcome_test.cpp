// What becomes of runs: records, and what is read off their metrics.
#include "launch/sweep/run_outcome.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/base/error.h"
#include "tests/launch/sweep/sweep_fixture.h"

namespace muonp::launch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RunRecords : public SweepTest {
 protected:
  SweepRun run(const std::string& yaml = "") const { return sweep(yaml).runs().front(); }
  static void metrics(const SweepRun& run, const std::string& lines) {
    std::filesystem::create_directories(run.folder);
    test::put(run.folder + "/metrics.jsonl", lines);
  }
  static void printed(const SweepRun& run, const std::string& text) {
    std::filesystem::create_directories(run.folder);
    test::put(log_of(run), text);
  }
  static constexpr const char* kTenSteps =
      "{\"step\":9,\"loss\":2.0,\"grad_norm\":1}\n{\"step\":10,\"loss\":1.5,\"grad_norm\":1}\n";
};

TEST_F(RunRecords, AreReadBack) {
  const SweepRun one = run();
  EXPECT_EQ(read_record(one).state, RunState::fresh);
  for (const RunState state : {RunState::unfinished, RunState::failed, RunState::complete, RunState::not_finite}) {
    write_record(one, {state, "why \"so\""});
    EXPECT_EQ(read_record(one).state, state);
    EXPECT_EQ(read_record(one).message, "why \"so\"");
  }
}

TEST_F(RunRecords, OtherSettingsAreNamed) {
  write_record(run(), {RunState::complete, ""});
  EXPECT_THAT(error_of([&] { read_record(run("set: {run.steps: 20, model.width: 16}\n")); }),
              AllOf(HasSubstr("was run with other settings"), HasSubstr("run.steps was 10 and is 20 now"),
                    HasSubstr("model.width was 8 and is 16 now"), HasSubstr("choose another folder")));
  EXPECT_EQ(read_record(run("threads: 2\n")).state, RunState::complete)
      << "the number of threads is no setting of the result";
}

TEST_F(RunRecords, AKeyThatTheRecordDoesNotKnowCountsWhereItIsSet) {
  const SweepRun one = run("set: {log.every: 5}\n");
  SweepRun older = one;
  std::erase_if(older.values, [](const core::NamedValue& v) { return v.name == "log.every" || v.name == "log.hash_every"; });
  write_record(older, {RunState::complete, ""});
  EXPECT_THAT(error_of([&] { read_record(one); }),
              AllOf(HasSubstr("log.every is 5 now"), testing::Not(HasSubstr("hash_every"))));
}

TEST_F(RunRecords, ARunThatNoSweepMadeIsLeftAlone) {
  metrics(run(), kTenSteps);
  EXPECT_THAT(error_of([&] { read_record(run()); }), HasSubstr("holds a run that no sweep has made"));
}

TEST_F(RunRecords, ADamagedRecordIsNamed) {
  std::filesystem::create_directories(run().folder);
  for (const char* text : {"{", "{}", "{\"state\": \"done\", \"message\": \"\", \"settings\": {}}"}) {
    test::put(run().folder + "/sweep.json", text);
    EXPECT_THAT(error_of([&] { read_record(run()); }), HasSubstr("sweep.json is damaged")) << text;
  }
}

TEST_F(RunRecords, ARunThatHasItsStepsIsComplete) {
  const SweepRun one = run();
  metrics(one, kTenSteps);
  EXPECT_EQ(outcome_of(one, 0, false).state, RunState::complete);
  EXPECT_EQ(outcome_of(one, 0, true).state, RunState::complete);
  printed(one, "step 10\nStopped by SIGTERM after step 10 of 10; the same command goes on from there.\n");
  EXPECT_EQ(outcome_of(one, 0, true).state, RunState::unfinished) << "it has not been validated";
  EXPECT_EQ(outcome_of(one, 0, false).state, RunState::failed);
}

TEST_F(RunRecords, ARunThatWasStoppedIsUnfinished) {
  const SweepRun one = run();
  metrics(one, "{\"step\":4,\"loss\":2.0}\n");
  EXPECT_EQ(outcome_of(one, 0, true).state, RunState::unfinished);
  const RunOutcome alone = outcome_of(one, 0, false);
  EXPECT_EQ(alone.state, RunState::failed);
  EXPECT_EQ(alone.message, "stopped after step 4 of 10");
}

TEST_F(RunRecords, AFailureHasItsLastWords) {
  const SweepRun one = run();
  printed(one, "start\nmuonp: error: data.train: text.txt: no such file\nmpirun noticed something\n");
  EXPECT_EQ(outcome_of(one, 1, false).state, RunState::failed);
  EXPECT_EQ(outcome_of(one, 1, false).message, "data.train: text.txt: no such file");
  printed(one, "one\nlast line\n\n");
  EXPECT_EQ(outcome_of(one, 1, false).message, "last line");
  EXPECT_EQ(outcome_of(one, 128 + 9, false).message, "ended by signal 9 (SIGKILL)");
  printed(one, "");
  EXPECT_EQ(outcome_of(one, 3, false).message, "ended with status 3 and without a word");
}

TEST_F(RunRecords, ALossThatIsNoneEndsARunUnlessSuchStepsArePassedOver) {
  const std::string lost = "{\"step\":9,\"loss\":null,\"note\":\"loss is nan\"}\n{\"step\":10,\"loss\":1.5}\n";
  metrics(run(), lost);
  EXPECT_EQ(outcome_of(run(), 0, false).state, RunState::not_finite);
  EXPECT_EQ(outcome_of(run(), 0, false).message, "the loss of step 9");
  EXPECT_FALSE(running_step(run().folder).finite);
  EXPECT_EQ(outcome_of(run("set: {guard.spike: skip}\n"), 0, false).state, RunState::complete);
  metrics(run(), "{\"step\":3,\"loss\":2.0,\"grad_norm\":null}\n");
  EXPECT_EQ(outcome_of(run(), 1, false).state, RunState::not_finite) << "skipped too often, for a gradient that was none";
}

TEST_F(RunRecords, ARunBetweenItsLastStepAndItsEndStartsAnew) {
  const SweepRun one = run();
  complete(one, {"3.5"});
  prepare_start(one);
  EXPECT_FALSE(std::filesystem::exists(one.folder + "/metrics.jsonl"));
  EXPECT_EQ(read_record(one).state, RunState::unfinished);
  complete(one, {"3.5"});
  printed(one, "Stopped by SIGTERM after step 10 of 10; the same command goes on from there.\n");
  prepare_start(one);
  EXPECT_TRUE(std::filesystem::exists(one.folder + "/metrics.jsonl")) << "its last validation is left to do";
  metrics(one, "{\"step\":4,\"loss\":2.0}\n");
  prepare_start(one);
  EXPECT_TRUE(std::filesystem::exists(one.folder + "/metrics.jsonl"));
}

TEST_F(RunRecords, TheStepOfARunIsReadFromTheEnd) {
  const SweepRun one = run();
  EXPECT_EQ(running_step(one.folder).step, 0);
  std::string lines = "{\"step\":1,\"loss\":null}\n";
  for (int step = 2; step < 2000; ++step) lines += fmt::format("{{\"step\":{},\"loss\":2.0}}\n", step);
  metrics(one, lines + "{\"step\":2000,\"lo");
  EXPECT_EQ(running_step(one.folder).step, 1999);
  EXPECT_TRUE(running_step(one.folder).finite) << "the end alone is looked at";
}

TEST_F(RunRecords, ResultsAreReducedFromTheMetrics) {
  const auto value = [&](const std::string& yaml) { return result_of(run(yaml), file(yaml)).value; };
  complete(run(), {"3.5", "3.25", "3.75"});
  EXPECT_EQ(value(""), 3.75);
  EXPECT_EQ(value("value: best\n"), 3.25);
  EXPECT_EQ(value("value: best\nbetter: higher\n"), 3.75);
  EXPECT_EQ(value("value: tail\nmetric: loss\n"), 5.0);
  const RunResult result = result_of(run(), file("also: [grad_norm, unknown]\n"));
  EXPECT_EQ(result.seconds_per_step, 0.5);
  EXPECT_EQ(result.sent_per_step, 100);
  EXPECT_EQ(result.also[0], 1.0);
  EXPECT_TRUE(std::isnan(result.also[1]));
  EXPECT_THAT(error_of([&] { value("metric: accuracy\n"); }),
              AllOf(HasSubstr("has 'accuracy'"), HasSubstr("grad_norm, loss")));
}

TEST_F(RunRecords, AValueThatIsNoneIsNotFinite) {
  complete(run(), {"3.5", "null"});
  const RunResult result = result_of(run(), file(""));
  EXPECT_EQ(result.record.state, RunState::not_finite);
  EXPECT_FALSE(result.value);
  EXPECT_EQ(result_of(run("value: best\n"), file("value: best\n")).value, 3.5);
}

TEST_F(RunRecords, OfAnUnfinishedRunNothingIsCompared) {
  complete(run(), {"3.5"});
  write_record(run(), {RunState::failed, "why"});
  EXPECT_FALSE(result_of(run(), file("")).value);
}

}  // namespace
}  // namespace muonp::launch
