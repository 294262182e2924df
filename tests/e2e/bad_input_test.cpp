// Each mistake ends in one clear message and a non-zero status on all ranks, and loses nothing.
#include <unistd.h>

#include <algorithm>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class BadInput : public ProgramTest {
 protected:
  // Runs on two ranks and expects status 1 within 30 s and exactly one message, which has all of `words`.
  void expect_refusal(const std::string& arguments, const std::vector<std::string>& words, int ranks = 2) const {
    const Outcome outcome = muonp(arguments, ranks, 60);
    EXPECT_EQ(outcome.status, 1) << arguments << "\n" << outcome.out << outcome.err;
    EXPECT_LT(outcome.seconds, 30) << arguments;
    for (const std::string& word : words)
      EXPECT_NE(outcome.err.find(word), std::string::npos) << arguments << ": no '" << word << "' in\n" << outcome.err;
    std::size_t messages = 0;
    for (std::size_t at = 0; (at = outcome.err.find("muonp: error:", at)) != std::string::npos; ++at) ++messages;
    EXPECT_EQ(messages, 1u) << arguments << "\n" << outcome.err;
  }
  void expect_setting_refused(const std::string& setting, const std::vector<std::string>& words) const {
    expect_refusal("train tiny.yaml --set " + setting, words);
  }
};

TEST_F(BadInput, Yaml) {
  write("broken.yaml", "run: {steps: 3\ndata: [\n");
  expect_refusal("train broken.yaml", {"broken.yaml:"});
  write("unknown.yaml", "# A comment.\n\noptimiser: {p: 1}\n" + tiny_config());
  expect_refusal("train unknown.yaml", {"unknown.yaml:3", "optimiser", "optimizer"});
  expect_refusal("train missing.yaml", {"missing.yaml"});
  expect_setting_refused("optimizer.matrices.moment=1", {"moment", "momentum"});
  expect_setting_refused("run.steps=many", {"run.steps", "many"});
  expect_setting_refused("run.steps=-1", {"run.steps"});
  expect_setting_refused("parallel.zero=4", {"parallel.zero"});
  expect_setting_refused("device=gpu", {"gpu", "auto", "cuda"});
  if (!test::on_gpu()) expect_setting_refused("device=cuda", {"cuda"});  // Gpu.* has the refusals of GPUs
}

TEST_F(BadInput, ExponentListsTheNearest) {
  expect_setting_refused("optimizer.matrices.p=2", {"p", "2", "1"});
  expect_setting_refused("optimizer.matrices.p=0.31", {"0.31", "5/16"});
  expect_setting_refused("optimizer.matrices.p=half", {"half"});
}

TEST_F(BadInput, Schedules) {
  expect_setting_refused(
      "'optimizer.matrices.p=linear 1/2@1 0@1000'",
      {"optimizer.matrices.p: a schedule longer than the run", fmt::format("valid are steps from 1 to {}", steps())});
  expect_setting_refused("'optimizer.others.lr=cosine 1@1'", {"optimizer.others.lr", "cosine needs values at two steps"});
  expect_setting_refused("'optimizer.matrices.momentum=logistic 0.9 1.5 tau 0 width 1'",
                         {"optimizer.matrices.momentum", "[0, 1]"});
  expect_setting_refused("optimizer.matrices.p_every=5", {"optimizer.matrices.p_every", "p: adaptive"});
  EXPECT_FALSE(core::exists(path("runs/run")));
}

TEST_F(BadInput, Data) {
  expect_setting_refused("data.train=nowhere.txt", {"nowhere.txt", "data.train"});
  EXPECT_FALSE(core::exists(path("runs/run"))) << "a run that never was has left a folder";
  expect_refusal("train tiny.yaml --set data.tokenizer=none.model --set model.vocabulary=300", {"none.model"});
  EXPECT_FALSE(core::exists(path("runs/run")));
  write("three.txt", "abc");
  expect_setting_refused("data.train=three.txt", {"three.txt", "3"});
  write("empty.txt", "");
  expect_setting_refused("data.train=empty.txt", {"empty.txt"});
  expect_setting_refused("model.vocabulary=50", {"50"});
  expect_setting_refused("data.batch=13", {"data.batch", "13", "2 ranks"});
  expect_setting_refused("data.sequence=64", {"data.sequence", "model.context"});
  expect_setting_refused("data.tokenizer=none.model", {"none.model"});
}

TEST_F(BadInput, MoreRanksThanMatricesWorks) {
  write("small.yaml", tiny_config());
  const Outcome outcome = muonp(
      "train small.yaml --set model.layers=1 --set run.steps=3 --set "
      "'optimizer.matrices.select=[\"*.qkv.weight\"]'",
      4);
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
}

TEST_F(BadInput, Pitfall15_BivariateNearRankOne) {
  // One token repeated gives gradients of nearly rank one, which the published coefficients do not survive.
  write("same.txt", std::string(20000, 'a'));
  const Outcome outcome = muonp(
      "train tiny.yaml --set data.train=same.txt --set optimizer.matrices.method=bivariate --set "
      "checkpoint.every=1",
      2, 60);
  EXPECT_EQ(outcome.status, 1) << outcome.out << outcome.err;
  EXPECT_NE(outcome.err.find("bivariate"), std::string::npos) << outcome.err;
}

TEST_F(BadInput, NoBfloat16OnThisProcessor) {
  const Outcome outcome = run_shell(
      "export DNNL_MAX_CPU_ISA=AVX2; " + command("train tiny.yaml --set device=cpu --set parallel.compute=bfloat16", 2), 60);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("bfloat16"), std::string::npos) << outcome.err;
}

TEST_F(BadInput, FullDiskWhileSavingLosesNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "a small file system can only be mounted by root";
  const std::string disk = path("disk");
  core::make_directories(disk);
  if (run_shell("mount -t tmpfs -o size=1m none " + disk).status != 0)
    GTEST_SKIP() << "this environment does not let a tmpfs be mounted";
  const std::string train = "train tiny.yaml --set run.dir=disk --set checkpoint.every=5 --set run.name=full";
  const Outcome first = muonp(train + " --set run.steps=5", 2);
  EXPECT_EQ(first.status, 0) << first.err;
  // The disk is now full but for a few small files.
  run_shell(fmt::format("cd {}; head -c 10m /dev/zero >filler; truncate -s -64k filler", disk));
  expect_refusal(train, {"disk/full"});  // the checkpoint is written in the background
  EXPECT_EQ(core::list_directory(disk + "/full/checkpoints"), std::vector<std::string>{"step-00000005"});
  core::remove_tree(disk + "/filler");
  const Outcome again = muonp(train + " --set run.steps=10", 2);
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_NE(again.out.find("after step 5"), std::string::npos) << again.out;
  run_shell("umount " + disk);
}

TEST_F(BadInput, EvalAndGenerateNeedARun) {
  expect_refusal("eval runs/none", {"runs/none"}, 0);
  expect_refusal("generate runs/none", {"runs/none"}, 0);
}

}  // namespace muonp::e2e
