// Runs that go on after failures (launch/resilient.sh), and runs over two hosts (tests/support/two_hosts.sh).
#include <signal.h>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Survival : public ProgramTest {
 protected:
  static std::vector<std::string> settings() {
    return {"run.steps=50", "checkpoint.every=5", "checkpoint.keep=10000", "log.validate_every=0"};
  }

  std::string resilient(const std::string& options, const std::string& run,
                        const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = settings();
    all.insert(all.end(), more.begin(), more.end());
    return fmt::format("cd {} && OMP_NUM_THREADS=1 PMIX_MCA_gds=hash exec {}/resilient.sh --delay 0 {} -- {} {}", path(""),
                       MUONP_LAUNCH_FOLDER, options, MUONP_PROGRAM, train_arguments(run, all));
  }
  // Calls `act` once, when the run has saved some steps.
  Outcome run_and(const std::string& command, const std::string& run, const std::function<void(int pid)>& act) const {
    bool done = false;
    return run_shell(command, 120, [&](int pid) {
      if (done || !core::exists(path("runs/" + run + "/checkpoints/step-00000010/manifest.json"))) return;
      done = true;
      act(pid);
    });
  }
  // The last rank of the run that was started.
  static void kill_a_rank(const std::string& run) {
    run_shell("kill -KILL $(pgrep -f '[m]uonp train .*run.name=" + run +
              " ' | while read p; do [ \"$(cat /proc/$p/comm)\" = muonp ] && echo $p; done | tail -n 1)");
  }
  void expect_near(const std::string& run, const std::string& whole) const {
    const std::vector<double> losses = metric(run, "loss"), expected = metric(whole, "loss");
    ASSERT_EQ(losses.size(), expected.size());
    for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << i;
  }
};

TEST_F(Survival, AKilledRankCostsNoBitOfTheResult) {
  train("whole", settings(), 3);
  const Outcome outcome = run_and(resilient("--ranks 3", "killed"), "killed", [](int) { kill_a_rank("killed"); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("restart 1 of at most 100, on 3 ranks"), std::string::npos) << outcome.err;
  EXPECT_EQ(metric("killed", "loss"), metric("whole", "loss"));
}

TEST_F(Survival, ABranchGoesOnFromItsOwnCheckpoints) {
  train("whole", settings(), 2);
  const std::string start = "checkpoint.resume=runs/whole/checkpoints/step-00000005";
  const Outcome outcome = run_and(resilient("--ranks 2", "branch", {start}), "branch", [](int) { kill_a_rank("branch"); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("restart 1 of at most 100, on 2 ranks"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out.find("after step 5 of", outcome.out.find("after step 5 of") + 1), std::string::npos) << outcome.out;
  const std::vector<double> losses = metric("whole", "loss");
  EXPECT_EQ(metric("branch", "loss"), std::vector<double>(losses.begin() + 5, losses.end()));
}

// A branch that sets aside a line of more steps makes progress below them; setting it aside is none.
TEST_F(Survival, ABranchBackMakesProgress) {
  train("back", settings());
  write("once.sh", R"(#!/bin/sh
# muonp whose training makes a checkpoint and fails, and from then on fails at once.
[ "$1" = train ] || exec )" MUONP_PROGRAM R"( "$@"
mkdir started 2>/dev/null || exit 1
)" MUONP_PROGRAM R"( "$@" --set run.steps=10 && exit 1
)");
  run_shell("chmod +x " + path("once.sh"));
  const std::string line =
      train_arguments("back", {"checkpoint.every=5", "checkpoint.keep=10000", "log.validate_every=0",
                               "schedule.kind=constant", "checkpoint.resume=5", "checkpoint.set_aside=true"});
  const Outcome outcome =
      run_shell(fmt::format("cd {} && OMP_NUM_THREADS=1 exec {}/resilient.sh --delay 0 --ranks 1 -- {} {}", path(""),
                            MUONP_LAUNCH_FOLDER, path("once.sh"), line));
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_NE(outcome.err.find("restart 2 of at most 100, on 1 ranks, from step 10"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("two runs in a row made no progress beyond step 10"), std::string::npos) << outcome.err;
}

// A name that YAML writes in quotes, in a folder with a space.
TEST_F(Survival, AnyNameIsAName) {
  const std::string run = "lr=1e-3 p: 1-2 \u00e4 #2";
  const std::string line = fmt::format(
      "cd {} && OMP_NUM_THREADS=1 PMIX_MCA_gds=hash exec {}/resilient.sh --delay 0 --ranks 2 -- {} train tiny.yaml "
      "--set run.steps=50 --set checkpoint.every=5 --set log.validate_every=0 --set 'run.name={}' --set "
      "'run.dir=runs of mine'",
      path(""), MUONP_LAUNCH_FOLDER, MUONP_PROGRAM, run);
  bool done = false;
  const Outcome outcome = run_shell(line, 120, [&](int) {
    if (done || !core::exists(path("runs of mine/" + run + "/checkpoints/step-00000010/manifest.json"))) return;
    done = true;
    kill_a_rank("lr=1e-3 p: 1-2 .* #2");
  });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("restart 1 of at most 100, on 2 ranks, from step"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("from step 0"), std::string::npos) << outcome.err;
}

TEST_F(Survival, FewerRanksGoOnWithTheSameRun) {
  train("whole", settings(), 4);
  const Outcome outcome = run_and(resilient("--ranks 4 --shrink", "less"), "less", [](int) { kill_a_rank("less"); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("restart 1 of at most 100, on 3 ranks"), std::string::npos) << outcome.err;
  expect_near("less", "whole");
}

TEST_F(Survival, AHostThatIsGoneIsLeftOut) {
  // Stands in for ssh, on this machine; node1 is gone when there is a file of that name.
  write("agent.sh", "#!/bin/sh\n[ -e " + path("$1") + " ] && exit 255\nshift\nexec sh -c \"$*\"\n");
  run_shell("chmod +x " + path("agent.sh"));
  write("hosts", "# two nodes\nnode0 slots=1\nnode1 slots=2\n");
  train("whole", settings(), 3);
  const std::string options = fmt::format("--hostfile {} --agent {}", path("hosts"), path("agent.sh"));
  const Outcome outcome = run_and(resilient(options, "hosts"), "hosts", [&](int) {
    write("node1", "");
    kill_a_rank("hosts");
  });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("host node1 does not answer"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("restart 1 of at most 100, on 1 ranks"), std::string::npos) << outcome.err;
  expect_near("hosts", "whole");
}

TEST_F(Survival, GivesUpWhereThereIsNoProgress) {
  const Outcome outcome = run_shell(resilient("--ranks 2", "no-data", {"data.train=none.txt"}));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("gives up: two runs in a row made no progress beyond step 0"), std::string::npos)
      << outcome.err;
  const Outcome bad = run_shell(resilient("--ranks 2", "bad-key", {"run.stepps=3"}));
  EXPECT_EQ(bad.status, 1);
  EXPECT_EQ(bad.err.find("restart"), std::string::npos) << bad.err;
  const Outcome few = run_shell(resilient("--ranks 5 --min-ranks 5", "few"));
  EXPECT_EQ(few.status, 1);
  EXPECT_NE(few.err.find("divides data.batch, 12"), std::string::npos) << few.err;
}

TEST_F(Survival, BeingAskedToStopIsNoFailure) {
  const Outcome outcome =
      run_and(resilient("--ranks 2", "asked", {"run.steps=100000"}), "asked", [](int pid) { kill(pid, SIGTERM); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("Stopped by"), std::string::npos) << outcome.out;
  EXPECT_EQ(outcome.err.find("restart"), std::string::npos) << outcome.err;
}

class TwoHosts : public Survival {
 protected:
  void SetUp() override {
    Survival::SetUp();
    const Outcome able = run_shell(std::string(MUONP_TWO_HOSTS) + " --check");
    if (able.status == 77) GTEST_SKIP() << able.err;
    ASSERT_EQ(able.status, 0) << able.err;
  }
  std::string over(const std::string& hosts, const std::string& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = settings();
    all.insert(all.end(), more.begin(), more.end());
    return fmt::format("cd {} && OMP_NUM_THREADS=1 exec {} --rate 1gbit -np 4 --host {} -- {} {}", path(""), MUONP_TWO_HOSTS,
                       hosts, MUONP_PROGRAM, train_arguments(run, all));
  }
};

TEST_F(TwoHosts, SameLossesAsOnOne) {
  train("one", settings(), 4);
  for (const auto& [run, hosts] : {std::pair{"even", "h0:2,h1:2"}, {"uneven", "h0:1,h1:3"}}) {
    const Outcome outcome = run_shell(over(hosts, run));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("4 ranks on 2 hosts"), std::string::npos) << outcome.out;
    EXPECT_EQ(metric(run, "loss"), metric("one", "loss")) << run;  // sums are in the order of ranks
  }
}

TEST_F(TwoHosts, Pitfall43_RanksOfAHostThatAreKilledOrStoppedAreNamed) {
  for (const char* signal : {"KILL", "STOP"}) {
    const std::string run = std::string("lost-") + signal;
    const std::vector<std::string> more = {"run.steps=100000", "parallel.timeout_seconds=2"};
    const Outcome outcome = run_and(over("h0:2,h1:2", run, more), run, [&](int pid) {
      run_shell(
          fmt::format("for p in $(ip netns pids muonp{}-h1); do [ $(cat /proc/$p/comm) = muonp ] && "
                      "kill -{} $p; done",
                      pid, signal));
    });
    EXPECT_GT(outcome.status, 0) << outcome.err;
    EXPECT_LT(outcome.seconds, 40);
    if (std::string(signal) == "STOP") {
      EXPECT_NE(outcome.err.find("nothing came from rank 2 (h1); nothing came from rank 3 (h1)"), std::string::npos)
          << outcome.err;
      EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
    } else {
      EXPECT_NE(outcome.err.find("on node h1 exited on signal 9"), std::string::npos) << outcome.err;
    }
  }
}

// With mpirun's daemon, which mpirun then waits for.
TEST_F(TwoHosts, Pitfall43_AHostThatFreezesWholeEndsTheRun) {
  const std::vector<std::string> more = {"run.steps=100000", "parallel.timeout_seconds=2"};
  const Outcome outcome = run_and(over("h0:2,h1:2", "frozen", more), "frozen", [](int pid) {
    run_shell(fmt::format("ip netns pids muonp{}-h1 | xargs kill -STOP", pid));
  });
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_LT(outcome.seconds, 60);
  EXPECT_NE(outcome.err.find("nothing came from rank 2 (h1); nothing came from rank 3 (h1)"), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("a host does not answer; mpirun is ended"), std::string::npos) << outcome.err;
}

}  // namespace muonp::e2e
