#include "core/checkpoint_store.h"
#include "core/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Resume : public ProgramTest {};

namespace {
const std::vector<std::string> kSaveEvery10 = {"checkpoint.every=10", "checkpoint.keep=5",
                                               "model.dropout=0.1"};
}

TEST_F(Resume, IsBitEqualToAnUninterruptedRun) {
  for (int ranks : {1, 2, 3}) {
    const std::string whole = fmt::format("whole{}", ranks), parts = fmt::format("parts{}", ranks);
    train(whole, kSaveEvery10, ranks);
    // The run is stopped after step 20 by losing what came later.
    train(parts, kSaveEvery10, ranks);
    core::remove_tree(path("runs/" + parts + "/checkpoints/step-00000030"));
    const std::vector<double> first = metric(parts, "loss");
    train(parts, kSaveEvery10, ranks);
    EXPECT_EQ(metric(parts, "loss"), metric(whole, "loss"));
    EXPECT_EQ(metric(parts, "val_loss"), metric(whole, "val_loss"));
    const core::CheckpointStore a(path("runs/" + whole + "/checkpoints")),
        b(path("runs/" + parts + "/checkpoints"));
    EXPECT_EQ(a.open(30).entries(),
              b.open(30).entries());  // names, sizes and checksums of every rank's state
  }
}

TEST_F(Resume, Pitfall36_Pitfall38_OpensAtAnotherWorldSizeAndStage) {
  train("whole", kSaveEvery10, 1);
  const std::vector<double> expected = metric("whole", "loss");
  for (const auto& [save, load, zero] : {std::tuple{4, 1, 0}, {4, 3, 2}, {1, 4, 1}, {3, 2, 1}, {2, 4, 2}}) {
    const std::string name = fmt::format("from{}to{}", save, load);
    train(name, kSaveEvery10, save);
    core::remove_tree(path("runs/" + name + "/checkpoints/step-00000030"));
    std::vector<std::string> settings = kSaveEvery10;
    settings.push_back(fmt::format("parallel.zero={}", zero));
    train(name, settings, load);
    const std::vector<double> losses = metric(name, "loss");
    ASSERT_EQ(losses.size(), expected.size());
    for (std::size_t i = 0; i < losses.size(); ++i)
      EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << name;
  }
}

TEST_F(Resume, Pitfall41_DamagedCheckpointIsNamedAndTheOneBeforeIsUsed) {
  train("one", kSaveEvery10, 2);
  const std::vector<double> expected = metric("one", "loss");
  const std::string file = path("runs/one/checkpoints/step-00000030/state-00001.safetensors");
  std::string content = core::read_file(file);
  content[content.size() / 2] ^= 4;
  core::write_file(file, content);
  const Outcome outcome = muonp(train_arguments("one", kSaveEvery10), 2);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("state-00001.safetensors"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("after step 20"), std::string::npos) << outcome.out;
  EXPECT_EQ(metric("one", "loss"), expected);
}

TEST_F(Resume, NoIntactCheckpointIsAnErrorNotANewStart) {
  train("one", {}, 2);
  const std::string file = path("runs/one/checkpoints/step-00000030/state-00000.safetensors");
  core::write_file(file, core::read_file(file).substr(0, 1000));
  const Outcome outcome = muonp(train_arguments("one", {}), 2);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("state-00000.safetensors"), std::string::npos) << outcome.err;
  EXPECT_EQ(metric("one", "loss").size(), 30u);  // nothing of the run was touched
}

TEST_F(Resume, AnotherBatchOrModelIsRefused) {
  train("one", {}, 0);
  for (const auto& [setting, word] :
       {std::pair{"data.batch=24", "data.batch"}, {"run.seed=6", "run.seed"}, {"model.width=48", "shape"}}) {
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
  train("one", {"schedule.kind=constant", "run.steps=35"}, 2);
  train("direct", {"schedule.kind=constant", "run.steps=35"}, 2);
  EXPECT_EQ(metric("one", "loss"), metric("direct", "loss"));
}

}  // namespace muonp::e2e
