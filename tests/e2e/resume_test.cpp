#include <algorithm>

#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Resume : public ProgramTest {
 protected:
  std::string last_checkpoint(const std::string& run) const {
    return path(fmt::format("runs/{}/checkpoints/step-{:08}", run, steps()));
  }
};

namespace {
const std::vector<std::string> kSaveEvery10 = {"checkpoint.every=10", "checkpoint.keep=5", "model.dropout=0.1"};
}

TEST_F(Resume, IsBitEqualToAnUninterruptedRun) {
  for (const auto& [ranks, zero] : {std::pair{1, 1}, {2, 1}, {3, 1}, {2, 3}}) {
    const std::string whole = fmt::format("whole{}-{}", ranks, zero), parts = fmt::format("parts{}-{}", ranks, zero);
    std::vector<std::string> settings = kSaveEvery10;
    settings.push_back(fmt::format("parallel.zero={}", zero));
    train(whole, settings, ranks);
    // The run is stopped ten steps before its end by losing what came later.
    train(parts, settings, ranks);
    core::remove_tree(last_checkpoint(parts));
    train(parts, settings, ranks);
    EXPECT_EQ(metric(parts, "loss"), metric(whole, "loss"));
    EXPECT_EQ(metric(parts, "val_loss"), metric(whole, "val_loss"));
    // Names, sizes and checksums of every rank's state.
    EXPECT_EQ(core::Checkpoint(last_checkpoint(parts)).entries(), core::Checkpoint(last_checkpoint(whole)).entries());
  }
}

// In the middle of schedules, and of the steps between two choices of an exponent.
TEST_F(Resume, SchedulesGoOnWhereTheyWere) {
  const std::vector<std::vector<std::string>> kCases = {
      {"'optimizer.matrices.p=logistic 1/2 -1/4 tau 0.6 width 0.1'", "'optimizer.matrices.momentum=cosine 0.5@1 0.9@18'",
       "'optimizer.others.lr=linear 1e-3@1 3e-3@19'"},
      {"optimizer.matrices.p=adaptive", "optimizer.matrices.p_every=7",
       "'optimizer.matrices.p_candidates=[0, 1/4, 1/2, 1]'"}};
  for (std::size_t c = 0; c < kCases.size(); ++c) {
    const std::string whole = fmt::format("whole{}", c), parts = fmt::format("parts{}", c);
    std::vector<std::string> settings = kSaveEvery10;
    settings.insert(settings.end(), kCases[c].begin(), kCases[c].end());
    train(whole, settings, 2);
    train(parts, settings, 2);
    core::remove_tree(last_checkpoint(parts));
    train(parts, settings, 2);
    for (const char* key : {"loss", "val_loss", "p.matrices"}) EXPECT_EQ(metric(parts, key), metric(whole, key)) << key;
    EXPECT_EQ(core::Checkpoint(last_checkpoint(parts)).entries(), core::Checkpoint(last_checkpoint(whole)).entries());
    const std::vector<double> p = metric(whole, "p.matrices");
    EXPECT_EQ(p.size(), c == 0 ? steps() : (steps() + 6) / 7);
    EXPECT_NE(p.front(), p.back());
    if (c == 1) {
      EXPECT_EQ(metric(whole, "p.matrices.blocks.0.attention.qkv.weight").size(), p.size());
    }
    // What was chosen goes on at another world size.
    core::remove_tree(last_checkpoint(parts));
    train(parts, settings, 3);
    const std::vector<double> losses = metric(parts, "loss"), expected = metric(whole, "loss");
    ASSERT_EQ(losses.size(), expected.size());
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]);
  }
}

// A curve that is relative to the run is that of its new length, and the run says that the length has changed.
TEST_F(Resume, ALongerRunHasALongerLogisticCurve) {
  const std::string p = "'optimizer.matrices.p=logistic 1/2 0 tau 0.5 width 0.1'";
  train("one", {p});
  const std::vector<double> before = metric("one", "p.matrices");
  EXPECT_EQ(before.back(), 0);
  const Outcome outcome = muonp(train_arguments("one", {p, fmt::format("run.steps={}", 2 * steps())}));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE((outcome.out + outcome.err).find("run.steps changes from"), std::string::npos) << outcome.out << outcome.err;
  const std::vector<double> after = metric("one", "p.matrices");
  ASSERT_EQ(after.size(), 2 * steps());
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
  EXPECT_NEAR(after[steps()], 0.25, 0.05);  // half of the new run
}

TEST_F(Resume, Pitfall36_Pitfall38_OpensAtAnotherWorldSizeAndStage) {
  train("whole", kSaveEvery10, 1);
  const std::vector<double> expected = metric("whole", "loss");
  struct Case {
    int save, load, from, to;  // ranks, and stages
  };
  for (const Case& c : {Case{4, 1, 1, 0}, Case{4, 3, 3, 2}, Case{1, 4, 1, 3}, Case{3, 2, 1, 1}, Case{2, 4, 1, 2}}) {
    const std::string name = fmt::format("from{}to{}", c.save, c.load);
    const auto settings = [](int zero) {
      std::vector<std::string> all = kSaveEvery10;
      all.push_back(fmt::format("parallel.zero={}", zero));
      return all;
    };
    train(name, settings(c.from), c.save);
    core::remove_tree(last_checkpoint(name));
    train(name, settings(c.to), c.load);
    const std::vector<double> losses = metric(name, "loss");
    ASSERT_EQ(losses.size(), expected.size());
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << name;
  }
}

// Every window of this text is another one, so that its tokens say which sample was read.
TEST_F(Resume, Pitfall38_TheSamplesThatAllRanksReadAreThoseOfTheWholeRun) {
  std::string text;
  for (int i = 0; i < 6000; ++i) text += fmt::format("{:05} ", i);
  write("numbers.txt", text);
  const auto record = [&](const std::string& out, const std::string& run, std::size_t stop, int ranks, int zero) {
    const std::string line =
        fmt::format("tiny.yaml {} {} data.train=numbers.txt run.name={} parallel.zero={}", path(out), stop, run, zero);
    const Outcome outcome = run_shell(command(line, ranks, MUONP_RECORD_SAMPLES));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  };
  const std::size_t cut = steps() / 2;
  record("whole", "whole", steps(), 2, 1);
  record("first", "parts", cut, 4, 1);
  record("second", "parts", steps(), 3, 2);
  const auto samples = [&](const std::string& names) {
    return run_shell("cd " + path("") + " && cat " + names + " | sort").out;
  };
  const std::string whole = samples("whole-*");
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(whole, '\n')), steps() * 12);
  EXPECT_EQ(run_shell("cd " + path("") + " && cat whole-* | sort | uniq -d").out, "");
  EXPECT_EQ(samples("first-* second-*"), whole);
}

TEST_F(Resume, Pitfall41_DamagedCheckpointIsNamedAndTheOneBeforeIsUsed) {
  train("one", kSaveEvery10, 2);
  const std::vector<double> expected = metric("one", "loss");
  const std::string file = last_checkpoint("one") + "/state-00001.safetensors";
  std::string content = core::read_file(file);
  content[content.size() / 2] ^= 4;
  core::write_file(file, content);
  const Outcome outcome = muonp(train_arguments("one", kSaveEvery10), 2);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("state-00001.safetensors"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find(fmt::format("after step {}", steps() - 10)), std::string::npos) << outcome.out;
  EXPECT_EQ(metric("one", "loss"), expected);
}

TEST_F(Resume, NoIntactCheckpointIsAnErrorNotANewStart) {
  train("one", {}, 2);
  const std::string file = last_checkpoint("one") + "/state-00000.safetensors";
  core::write_file(file, core::read_file(file).substr(0, 1000));
  const Outcome outcome = muonp(train_arguments("one", {}), 2);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("state-00000.safetensors"), std::string::npos) << outcome.err;
  EXPECT_EQ(metric("one", "loss").size(), steps());  // nothing of the run was touched
}

TEST_F(Resume, AnotherBatchOrModelIsRefused) {
  train("one", {}, 0);
  for (const auto& [setting, word] : {std::pair{"data.batch=24", "data.batch"},
                                      {"run.seed=6", "run.seed"},
                                      {"model.width=48", "model.width: 48 here, 32 in the checkpoint"}}) {
    const Outcome outcome = muonp(train_arguments("one", {setting, "run.steps=40"}), 2);
    EXPECT_EQ(outcome.status, 1) << setting;
    EXPECT_NE(outcome.err.find(word), std::string::npos) << setting << "\n" << outcome.err;
  }
  const Outcome none = muonp(train_arguments("one", {"checkpoint.resume=none"}));
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.err.find("checkpoint.resume"), std::string::npos) << none.err;
}

TEST_F(Resume, MoreStepsGoOn) {
  train("one", {"schedule.kind=constant"}, 2);
  const std::string more = fmt::format("run.steps={}", steps() + 5);
  train("one", {"schedule.kind=constant", more}, 2);
  train("direct", {"schedule.kind=constant", more}, 2);
  EXPECT_EQ(metric("one", "loss"), metric("direct", "loss"));
}

}  // namespace muonp::e2e
