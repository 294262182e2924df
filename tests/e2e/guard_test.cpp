// Losses that jump, as a user meets them: a text whose middle is noise, read from front to back.
#include <random>

#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Guard : public ProgramTest {
 protected:
  // Noise reaches from the first to the last token of some steps, beginning with kBad.
  static constexpr int kBad = 20;

  void write_noise(int steps) const {
    std::string text = read("text.txt");
    std::mt19937 random(3);
    const std::size_t tokens = 12 * sequence();
    for (std::size_t i = 0; i < static_cast<std::size_t>(steps) * tokens; ++i)
      text[(kBad - 1) * tokens + i] = static_cast<char>('!' + random() % 90);
    write("text.txt", text);
  }

  static std::vector<std::string> settings(const std::string& policy) {
    return {"data.shuffle=false", "guard.spike=" + policy, "guard.window=8",
            "guard.factor=6",     "checkpoint.every=1",    "checkpoint.keep=40"};
  }
  std::vector<core::CheckpointEntry> state_after(const std::string& run, int step) const {
    return core::Checkpoint(path(fmt::format("runs/{}/checkpoints/step-{:08}", run, step))).entries();
  }
};

TEST_F(Guard, ASkippedSpikeLeavesWeightsAndStateAndTheRunGoesOn) {
  write_noise(1);
  const Outcome outcome = muonp(train_arguments("skip", settings("skip")), 2);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find(fmt::format("step {}: loss ", kBad)), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("the step is skipped"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("1 of 30 steps were skipped."), std::string::npos) << outcome.out;
  EXPECT_EQ(state_after("skip", kBad), state_after("skip", kBad - 1));
  EXPECT_NE(state_after("skip", kBad + 1), state_after("skip", kBad));
  EXPECT_NE(state_after("skip", kBad - 1), state_after("skip", kBad - 2));
  EXPECT_NE(read("runs/skip/metrics.jsonl").find(R"("skipped":true,"spike":true)"), std::string::npos);
}

TEST_F(Guard, AResumedRunDecidesAsAnUninterruptedOne) {
  write_noise(1);
  train("whole", settings("skip"), 2);
  train("parts", settings("skip"), 2);
  for (int step = kBad - 2; step <= 30; ++step)  // inside the window that the decision needs
    core::remove_tree(path(fmt::format("runs/parts/checkpoints/step-{:08}", step)));
  train("parts", settings("skip"), 2);
  EXPECT_EQ(metric("parts", "loss"), metric("whole", "loss"));
  EXPECT_NE(read("runs/parts/metrics.jsonl").find(R"("skipped":true,"spike":true)"), std::string::npos);
}

TEST_F(Guard, WarnMovesTheWeightsAllTheSame) {
  write_noise(1);
  const Outcome outcome = muonp(train_arguments("warn", settings("warn")), 0);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("is a spike"), std::string::npos) << outcome.err;
  EXPECT_NE(state_after("warn", kBad), state_after("warn", kBad - 1));
  train("off", settings("off"), 0);
  EXPECT_EQ(metric("warn", "loss"), metric("off", "loss"));
}

TEST_F(Guard, StopSavesWhatWasBeforeAndNamesStepAndLoss) {
  write_noise(1);
  std::vector<std::string> rarely = settings("stop");
  rarely.push_back("checkpoint.every=0");
  const Outcome outcome = muonp(train_arguments("stop", rarely), 2);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find(fmt::format("step {}: loss ", kBad)), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
  EXPECT_NE(outcome.err.find(fmt::format("The state after step {} is saved in runs/stop", kBad - 1)), std::string::npos)
      << outcome.err;
  train("off", settings("off"), 2);
  EXPECT_EQ(state_after("stop", kBad - 1), state_after("off", kBad - 1));
  // It goes on with another policy.
  train("stop", settings("skip"), 2);
  EXPECT_EQ(metric("stop", "loss").size(), steps());
}

TEST_F(Guard, SkippingForEverEndsTheRun) {
  write_noise(8);
  std::vector<std::string> few = settings("skip");
  few.push_back("guard.max_skipped=3");
  const Outcome outcome = muonp(train_arguments("ever", few), 2);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("3 steps in a row were skipped (guard.max_skipped)"), std::string::npos) << outcome.err;
  EXPECT_EQ(metric("ever", "loss").size(), kBad + 2);
}

// With the defaults nothing was saved before.
TEST_F(Guard, ARunThatTheGuardEndsIsSaved) {
  const std::vector<std::string> wild = {"optimizer.matrices.lr=1e9", "optimizer.others.lr=1e9", "guard.max_skipped=2"};
  for (const int ranks : {0, 2}) {
    const std::string run = fmt::format("wild{}", ranks);
    const Outcome outcome = muonp(train_arguments(run, wild), ranks);
    EXPECT_EQ(outcome.status, 1);
    EXPECT_NE(outcome.err.find("2 steps in a row were skipped (guard.max_skipped)"), std::string::npos) << outcome.err;
    const auto last = static_cast<std::int64_t>(metric(run, "loss").size());
    EXPECT_NE(outcome.err.find(fmt::format("The state after step {} is saved in runs/{}/checkpoints", last, run)),
              std::string::npos)
        << outcome.err;
    const core::CheckpointStore store(path("runs/" + run + "/checkpoints"));
    EXPECT_EQ(store.steps(), std::vector<std::int64_t>{last});
    store.open(last);
  }
}

// The state that the run ends with need not be the best one.
TEST_F(Guard, AnEndByAnErrorDeletesNothing) {
  const Outcome outcome = muonp(train_arguments("wild", {"optimizer.matrices.lr=1e9", "optimizer.others.lr=1e9",
                                                         "guard.max_skipped=2", "checkpoint.every=1", "checkpoint.keep=1"}),
                                2);
  EXPECT_EQ(outcome.status, 1);
  const auto last = static_cast<std::int64_t>(metric("wild", "loss").size());
  EXPECT_EQ(core::CheckpointStore(path("runs/wild/checkpoints")).steps(), (std::vector<std::int64_t>{last - 1, last}));
}

TEST_F(Guard, WhereSavingFailsTooBothAreSaid) {
  const std::string train =
      train_arguments("wild", {"optimizer.matrices.lr=1e9", "optimizer.others.lr=1e9", "guard.max_skipped=2"});
  // Files of 100 KiB: the state does not fit. mpirun's own files would not either.
  const Outcome outcome = run_shell("ulimit -f 100; " + command(train));
  EXPECT_EQ(outcome.status, 1);
  for (const char* part : {"2 steps in a row were skipped", "could not be saved: ", "state-00000.safetensors"})
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
}

}  // namespace muonp::e2e
