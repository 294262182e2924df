#include <signal.h>

#include "core/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Interrupt : public ProgramTest {
 protected:
  static constexpr const char* kLong = "run.steps=100000";

  // Calls `act` once, when the run has done some steps.
  Outcome train_and(const std::string& name, int ranks, const std::vector<std::string>& more,
                    const std::function<void(int pid)>& act) const {
    std::vector<std::string> settings = {kLong, "log.validate_every=0"};
    settings.insert(settings.end(), more.begin(), more.end());
    bool done = false;
    const std::string metrics = path("runs/" + name + "/metrics.jsonl");
    return run_shell(command(train_arguments(name, settings), ranks), 90, [&](int pid) {
      if (done || !core::exists(metrics) || core::file_size(metrics) < 2000) return;
      done = true;
      act(pid);
    });
  }
};

namespace {
// Process ids whose command line holds `text` and that run the muonp program itself.
std::string pids_of(const std::string& name) {
  return "pgrep -f '[m]uonp train .*run.name=" + name +
         "' | while read p; do "
         "[ \"$(cat /proc/$p/comm)\" = muonp ] && echo $p; done";
}
}  // namespace

TEST_F(Interrupt, SigtermAndCtrlCSaveAndEndWithStatus0) {
  for (int ranks : {0, 2})
    for (int signal : {SIGTERM, SIGINT}) {
      const std::string name = fmt::format("signal{}-{}", signal, ranks);
      const Outcome outcome = train_and(name, ranks, {}, [&](int pid) {
        // To the ranks themselves, as a scheduler does and as a terminal does with its foreground job.
        run_shell(fmt::format("kill -{} $({})", signal, pids_of(name)));
        (void)pid;
      });
      EXPECT_EQ(outcome.status, 0) << name << "\n" << outcome.out.substr(0, 2000) << outcome.err;
      EXPECT_NE(outcome.out.find("Stopped by"), std::string::npos);
      const auto steps = metric(name, "loss").size();
      EXPECT_TRUE(
          core::exists(path(fmt::format("runs/{}/checkpoints/step-{:08}/manifest.json", name, steps))));
      const Outcome more = muonp(
          train_arguments(name, {fmt::format("run.steps={}", steps + 2), "log.validate_every=0"}), ranks);
      EXPECT_EQ(more.status, 0) << more.err;
      EXPECT_EQ(metric(name, "loss").size(), steps + 2);
    }
}

TEST_F(Interrupt, AStopSavesAlsoWhereTheLastStepIsNotSaved) {
  const Outcome outcome = train_and("one", 0, {"checkpoint.at_end=false"}, [](int pid) { kill(pid, SIGTERM); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(core::exists(path(fmt::format("runs/one/checkpoints/step-{:08}", metric("one", "loss").size()))));
}

TEST_F(Interrupt, SigtermToTheLauncherSavesToo) {
  const Outcome outcome = train_and("all", 2, {}, [](int pid) { kill(pid, SIGTERM); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto steps = metric("all", "loss").size();
  EXPECT_TRUE(core::exists(path(fmt::format("runs/all/checkpoints/step-{:08}/manifest.json", steps))))
      << outcome.err;
  EXPECT_LT(outcome.seconds, 60);
}

TEST_F(Interrupt, Pitfall43_AKilledRankEndsAllWithin30Seconds) {
  const std::string name = "killed";
  double at = 0;
  const auto clock = [] {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const Outcome outcome = train_and(name, 4, {"checkpoint.every=5", "checkpoint.keep=2"}, [&](int) {
    at = clock();
    run_shell("kill -KILL $(" + pids_of(name) + " | tail -n 1)");
  });
  EXPECT_GT(outcome.status, 0) << outcome.out.substr(0, 1000);
  EXPECT_LT(clock() - at, 30);
  EXPECT_NE(outcome.err.find("signal 9"), std::string::npos) << outcome.err;
  // What was saved before opens.
  const std::size_t steps = metric(name, "loss").size();
  const Outcome more =
      muonp(train_arguments(name, {fmt::format("run.steps={}", steps + 1), "log.validate_every=0"}), 2);
  EXPECT_EQ(more.status, 0) << more.err;
}

TEST_F(Interrupt, AJobThatIsSuspendedGoesOn) {
  const std::string name = "suspended";
  // Longer than the time-out.
  const Outcome outcome = train_and(name, 3, {"parallel.timeout_seconds=1"}, [&](int) {
    run_shell(fmt::format("p=$({}); kill -STOP $p; sleep 2; kill -CONT $p; sleep 2; kill -TERM $p", pids_of(name)));
  });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("Stopped by"), std::string::npos) << outcome.err;
}

TEST_F(Interrupt, Pitfall43_ARankIsLostWhileItSavesACheckpoint) {
  for (const auto& [ranks, signal] : {std::pair{3, "STOP"}, {4, "KILL"}}) {
    const std::string name = fmt::format("saving-{}", ranks);
    // Every step is saved, and the signal comes as soon as a checkpoint is under way.
    const std::string partial = path("runs/" + name + "/checkpoints/step-*.partial");
    const std::string strike = fmt::format("p=$({} | tail -n 1); until compgen -G '{}' >/dev/null; do :; done; kill -{} $p",
                                           pids_of(name), partial, signal);
    const Outcome outcome = train_and(name, ranks, {"parallel.timeout_seconds=2", "checkpoint.every=1"},
                                      [&](int) { run_shell(strike); });
    EXPECT_GT(outcome.status, 0) << outcome.err;
    EXPECT_LT(outcome.seconds, 40);
    if (std::string(signal) == "STOP") {
      EXPECT_NE(outcome.err.find("nothing came from rank"), std::string::npos) << outcome.err;
      EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
    } else {
      EXPECT_NE(outcome.err.find("exited on signal 9"), std::string::npos) << outcome.err;
    }
    const std::size_t steps = metric(name, "loss").size();
    const Outcome more = muonp(train_arguments(name, {fmt::format("run.steps={}", steps + 1), "log.validate_every=0"}), 2);
    EXPECT_EQ(more.status, 0) << more.err;
  }
}

TEST_F(Interrupt, Pitfall43_AStoppedRankIsNamedWithinTheTimeout) {
  const std::string name = "stopped";
  std::string pid;
  const Outcome outcome = train_and(name, 2, {"parallel.timeout_seconds=3"}, [&](int) {
    pid = run_shell(pids_of(name) + " | tail -n 1").out;
    run_shell("kill -STOP " + pid);
  });
  EXPECT_GT(outcome.status, 0);
  EXPECT_LT(outcome.seconds, 60);
  EXPECT_NE(outcome.err.find("nothing came from rank"), std::string::npos) << outcome.err;
  run_shell("kill -KILL " + pid);
}

}  // namespace muonp::e2e
