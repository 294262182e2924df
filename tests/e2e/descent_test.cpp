// Lines of descent and the lock of a run's folder, as a user meets them.
#include <signal.h>

#include "core/files/checkpoint_store.h"
#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Descent : public ProgramTest {
 protected:
  static std::vector<std::string> settings(const std::vector<std::string>& more) {
    std::vector<std::string> all = {"schedule.kind=constant", "log.validate_every=0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  core::CheckpointStore store(const std::string& run) const {
    return core::CheckpointStore(path("runs/" + run + "/checkpoints"));
  }
  using Steps = std::vector<std::int64_t>;
  static void expect_one_error(const Outcome& outcome, const std::string& part) {
    EXPECT_EQ(outcome.status, 1) << outcome.out;
    EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
  }
};

TEST_F(Descent, ABranchNeverMixesWithTheLineThatItLeaves) {
  train("one", settings({"checkpoint.every=5", "checkpoint.keep=5", "run.steps=15"}), 2);
  const std::string metrics = read("runs/one/metrics.jsonl");
  std::vector<std::string> branch =
      settings({"checkpoint.resume=5", "checkpoint.every=2", "checkpoint.keep=2", "run.steps=9"});
  expect_one_error(muonp(train_arguments("one", branch), 2), "of steps 10, 15. To go on with that line");
  EXPECT_EQ(store("one").steps(), (Steps{5, 10, 15}));
  EXPECT_EQ(read("runs/one/metrics.jsonl"), metrics);

  branch.emplace_back("checkpoint.set_aside=true");
  train("one", branch, 2);
  EXPECT_EQ(store("one").by_age(), (Steps{8, 9}));
  train("direct", settings({"run.steps=9"}), 2);
  EXPECT_EQ(metric("one", "loss"), metric("direct", "loss"));
  EXPECT_EQ(store("one").open(9).entries(), store("direct").open(9).entries());

  // The same command, and one that follows the line written last, go on from the branch's own newest.
  branch.emplace_back("run.steps=11");
  const Outcome again = muonp(train_arguments("one", branch), 2);
  EXPECT_NE(again.out.find("Resumed runs/one after step 9 of 11"), std::string::npos) << again.out << again.err;
  const Outcome automatic = muonp(train_arguments("one", settings({"run.steps=12"})), 2);
  EXPECT_NE(automatic.out.find("Resumed runs/one after step 11 of 12"), std::string::npos) << automatic.out;

  // The line that was left is a run of its own.
  EXPECT_EQ(read("runs/one/aside-1/metrics.jsonl"), metrics);
  EXPECT_EQ(muonp("checkpoint verify runs/one/aside-1").status, 0);
  const Outcome list = muonp("checkpoint list runs/one");
  EXPECT_NE(list.out.find("set aside: runs/one/aside-1"), std::string::npos) << list.out;
  const Outcome left = muonp(train_arguments("aside-1", settings({"run.dir=runs/one", "run.steps=16"})), 2);
  EXPECT_NE(left.out.find("after step 15 of 16"), std::string::npos) << left.out << left.err;
}

TEST_F(Descent, ABranchInAFolderOfItsOwnGoesOnAfterATimeLimit) {
  train("one", settings({"checkpoint.every=5", "checkpoint.keep=5", "run.steps=10"}));
  const std::string start = "checkpoint.resume=runs/one/checkpoints/step-00000005";
  const std::string forever = train_arguments("two", settings({start, "run.steps=100000"}));
  bool stopped = false;
  const Outcome limited = run_shell(command(forever), 90, [&](int pid) {
    if (stopped || !core::exists(path("runs/two/metrics.jsonl")) || metric("two", "loss").size() < 3) return;
    stopped = true;
    kill(pid, SIGUSR1);
  });
  EXPECT_EQ(limited.status, 0) << limited.err;
  const auto last = static_cast<std::int64_t>(5 + metric("two", "loss").size());
  EXPECT_EQ(store("two").steps(), Steps{last});
  core::remove_tree(path("runs/one/checkpoints/step-00000005"));  // by its own run, say
  const std::string more = fmt::format("run.steps={}", last + 2);
  const Outcome again = muonp(train_arguments("two", settings({start, more})));
  EXPECT_NE(again.out.find(fmt::format("Resumed runs/two after step {}", last)), std::string::npos)
      << again.out << again.err;
  train("direct", settings({more}));
  const std::vector<double> whole = metric("direct", "loss");
  EXPECT_EQ(metric("two", "loss"), std::vector<double>(whole.begin() + 5, whole.end()));
}

TEST_F(Descent, ARunThatHasItsStepsSaysSoAndChangesNothing) {
  train("one", settings({"run.steps=4"}), 2);
  const std::string config = read("runs/one/config.resolved.yaml"), metrics = read("runs/one/metrics.jsonl");
  for (const char* steps : {"run.steps=3", "run.steps=4"}) {
    const Outcome outcome = muonp(train_arguments("one", settings({steps})), 2);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("Nothing to do: runs/one is at step 4, and run.steps is"), std::string::npos) << outcome.out;
    EXPECT_EQ(outcome.out.find("Resumed"), std::string::npos);
  }
  EXPECT_EQ(read("runs/one/config.resolved.yaml"), config);
  EXPECT_EQ(read("runs/one/metrics.jsonl"), metrics);
}

TEST_F(Descent, ASecondRunInAFolderIsRefusedAndTheFirstGoesOn) {
  const std::string forever = train_arguments("shared", settings({"run.steps=100000", "checkpoint.every=3"}));
  Outcome second;
  const Outcome first = run_shell(command(forever, 2), 120, [&](int pid) {
    if (second.status >= 0 || !core::exists(path("runs/shared/checkpoints"))) return;
    second = muonp(forever, 2);
    kill(pid, SIGTERM);
  });
  EXPECT_EQ(first.status, 0) << first.err;
  expect_one_error(second, "runs/shared is in use by another run (process ");
  const auto last = static_cast<std::int64_t>(metric("shared", "loss").size());
  train("alone", settings({fmt::format("run.steps={}", last)}), 2);
  EXPECT_EQ(metric("shared", "loss"), metric("alone", "loss"));
  EXPECT_EQ(store("shared").open(last).entries(), store("alone").open(last).entries());
  EXPECT_FALSE(core::exists(path("runs/shared/run.lock")));
}

// A fixture of a program that recorded neither the order of writing nor a line of descent.
TEST_F(Descent, CheckpointsOfEarlierProgramsOpenAndGoOn) {
  run_shell(fmt::format("cp -r {}/run-of-2-ranks {} && chmod -R u+w {}", MUONP_FIXTURES, path(""), path("run-of-2-ranks")));
  const std::string config = "train run-of-2-ranks/config.yaml ";
  const Outcome verified = muonp("checkpoint verify run-of-2-ranks");
  EXPECT_EQ(verified.status, 0) << verified.out << verified.err;
  const Outcome on = muonp(config + "--set run.steps=8", 2);
  EXPECT_EQ(on.status, 0) << on.err;
  EXPECT_NE(on.out.find("after step 6 of 8"), std::string::npos) << on.out;
  const core::CheckpointStore saved(path("run-of-2-ranks/checkpoints"));
  EXPECT_EQ(saved.by_age(), (Steps{6, 8}));
  const Outcome branch = muonp(config + "--set run.steps=7 --set checkpoint.resume=6 --set checkpoint.set_aside=true", 3);
  EXPECT_EQ(branch.status, 0) << branch.err;
  EXPECT_EQ(saved.by_age(), (Steps{6, 7}));
}

}  // namespace muonp::e2e
