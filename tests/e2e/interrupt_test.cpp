#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/files/files.h"
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
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) {
      const std::string name = fmt::format("signal{}-{}", signal, ranks);
      const Outcome outcome = train_and(name, ranks, {}, [&](int pid) {
        // To the ranks themselves, as a scheduler does and as a terminal does with its foreground job.
        run_shell(fmt::format("kill -{} $({})", signal, pids_of(name)));
        (void)pid;
      });
      EXPECT_EQ(outcome.status, 0) << name << "\n" << outcome.out.substr(0, 2000) << outcome.err;
      EXPECT_NE(outcome.out.find("Stopped by"), std::string::npos);
      const auto steps = metric(name, "loss").size();
      EXPECT_TRUE(core::exists(path(fmt::format("runs/{}/checkpoints/step-{:08}/manifest.json", name, steps))));
      const Outcome more =
          muonp(train_arguments(name, {fmt::format("run.steps={}", steps + 2), "log.validate_every=0"}), ranks);
      EXPECT_EQ(more.status, 0) << more.err;
      EXPECT_EQ(metric(name, "loss").size(), steps + 2);
    }
}

// A handler that interrupts one of oneDNN's products writes its frame over the heap: a single thread, which computes
// nothing, takes the signals (launch/program/signals.h).
TEST_F(Interrupt, NoThreadThatComputesTakesSignals) {
  for (int ranks : {0, 2}) {
    const std::string name = fmt::format("threads-{}", ranks);
    std::string takers, threads;
    train_and(name, ranks, {"parallel.threads=2"}, [&](int) {
      const std::string masks = fmt::format("for p in $({}); do grep -h SigBlk /proc/$p/task/*/status; done", pids_of(name));
      // SIGHUP, SIGINT, SIGUSR1 and SIGTERM are the bits 0, 1, 9 and 14 of the mask.
      takers = run_shell(masks + " | while read key mask; do (( (0x$mask & 0x4203) == 0x4203 )) || echo taker; done").out;
      threads = run_shell(masks).out;
      run_shell(fmt::format("kill -TERM $({})", pids_of(name)));
    });
    EXPECT_EQ(std::ranges::count(takers, '\n'), std::max(ranks, 1)) << takers << threads;
    EXPECT_GT(std::ranges::count(threads, '\n'), 2 * std::max(ranks, 1)) << threads;
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
  EXPECT_TRUE(core::exists(path(fmt::format("runs/all/checkpoints/step-{:08}/manifest.json", steps)))) << outcome.err;
  EXPECT_LT(outcome.seconds, 60);
}

// The last validation may be longer than the run before it. It is given up, and done when the run goes on.
TEST_F(Interrupt, AValidationIsGivenUp) {
  std::string text;
  while (text.size() < (std::size_t{8} << 20)) text += read("text.txt");
  write("long.txt", text);
  for (const int ranks : {0, 3}) {
    const std::string name = fmt::format("validation-{}", ranks), metrics = path("runs/" + name + "/metrics.jsonl");
    timespec asked{};
    const auto clock = [] {
      timespec t;
      clock_gettime(CLOCK_MONOTONIC, &t);
      return t;
    };
    const std::string arguments =
        train_arguments(name, {"run.steps=4", "data.validation=long.txt", "log.validate_every=0", "log.validation_batches=0",
                               "parallel.zero=3", "data.micro_batch=1"});
    const Outcome outcome = run_shell(command(arguments, ranks), 90, [&](int pid) {
      if (asked.tv_sec != 0 || !core::exists(metrics) || metric(name, "loss").size() < 4) return;
      asked = clock();
      kill(pid, SIGTERM);
    });
    EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
    EXPECT_LT(clock().tv_sec - asked.tv_sec, 10);
    EXPECT_NE(outcome.out.find(" after step 4 of 4; the same command goes on"), std::string::npos) << outcome.out;
    EXPECT_TRUE(metric(name, "val_loss").empty());
    for (int again = 0; again < 2; ++again) {  // the second time nothing is left to do
      const Outcome rest = muonp(arguments + " --set log.validation_batches=1", ranks);
      EXPECT_EQ(rest.status, 0) << rest.err;
      EXPECT_EQ(rest.out.find("is at step 4,") != std::string::npos, again == 1) << rest.out;
      EXPECT_EQ(metric(name, "val_loss").size(), 1U);
      EXPECT_EQ(metric(name, "loss").size(), 4U);
    }
    const Outcome fewer = muonp(train_arguments(name, {"run.steps=3", "data.validation=long.txt"}), ranks);
    EXPECT_EQ(fewer.status, 0) << fewer.err;
    EXPECT_TRUE(core::exists(path("runs/" + name + "/checkpoints/step-00000004/manifest.json"))) << outcome.err;
  }
}

// A terminal that is closed sends SIGHUP to the launcher; what it started sees nothing of it.
TEST_F(Interrupt, HangUpOfTheLauncherSavesAndLeavesNoProcess) {
  const Outcome outcome = train_and("hangup", 2, {}, [](int pid) { kill(pid, SIGHUP); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto steps = metric("hangup", "loss").size();
  EXPECT_TRUE(core::exists(path(fmt::format("runs/hangup/checkpoints/step-{:08}/manifest.json", steps)))) << outcome.err;
  EXPECT_EQ(run_shell("pgrep -f '[r]un.name=hangup'").out, "");
}

// Nobody reads the run's output any more: it trains on to its end.
TEST_F(Interrupt, AClosedReaderDoesNotEndTheRun) {
  for (const int ranks : {0, 2}) {
    const std::string name = fmt::format("unread-{}", ranks);
    const std::string line = command(train_arguments(name, {}), ranks);
    const Outcome outcome = run_shell("set -o pipefail; { " + line + "; } | head -n 1");
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(metric(name, "loss").size(), steps());
  }
}

// The disk behind the launcher's output is full: the run goes on, and its end says so, once.
TEST_F(Interrupt, AFullDiskBehindTheOutputIsAnErrorAtTheEnd) {
  for (const int ranks : {0, 2}) {
    const std::string name = fmt::format("unwritten-{}", ranks);
    const Outcome outcome = run_shell(command(train_arguments(name, {}), ranks) + " > /dev/full");
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    EXPECT_EQ(outcome.err,
              "muonp: error: standard output cannot be written: No space left on device; what was printed is incomplete\n");
    EXPECT_EQ(metric(name, "loss").size(), steps());
  }
}

// mpirun waits for a host's daemon that never answers, and no rank is there to be asked to save.
TEST_F(Interrupt, ALauncherThatHangsBeforeAnyRankStartsEndsOnTheFirstSignal) {
  write("agent.sh", "#!/bin/sh\nexec sleep 1234567\n");
  run_shell("chmod +x " + path("agent.sh"));
  bool sent = false;
  const Outcome outcome =
      run_shell(fmt::format("cd {} && exec {} -np 1 --host node7:1 --mca plm_rsh_agent {} {} train tiny.yaml", path(""),
                            MUONP_MPIRUN, path("agent.sh"), MUONP_PROGRAM),
                60, [&](int pid) {
                  if (!sent && run_shell("pgrep -f '[s]leep 1234567'").status == 0) {
                    sent = true;
                    kill(pid, SIGTERM);
                  }
                });
  EXPECT_TRUE(sent);
  EXPECT_GE(outcome.status, 0) << "it was still there";
  EXPECT_EQ(run_shell("pgrep -f '[s]leep 1234567'").out, "");
}

// A limit on processes is met before the first step, and is no defect of this program; a run that starts also saves.
TEST_F(Interrupt, ALimitOnThreadsIsMetAtTheStart) {
  if (geteuid() == 0 && run_shell("setpriv --reuid=54321 --clear-groups " MUONP_PROGRAM " --version").status != 0)
    GTEST_SKIP() << "root has no limit on processes, and no other user can run " MUONP_PROGRAM " here";
  run_shell("chmod -R a+rwX " + path(""));
  bool refused = false, trained = false;
  for (int limit = 1; limit <= 6; ++limit) {
    const std::string name = fmt::format("limit-{}", limit);
    const std::string user = geteuid() == 0 ? "setpriv --reuid=54321 --clear-groups " : "";
    const Outcome outcome =
        run_shell(fmt::format("cd {} && ulimit -u {} && OMP_NUM_THREADS=1 exec {}{} {}", path(""), limit, user,
                              MUONP_PROGRAM, train_arguments(name, {"run.steps=3", "checkpoint.every=2"})));
    const bool saved = core::exists(path("runs/" + name + "/checkpoints/step-00000003/manifest.json"));
    if (outcome.status == 0) {
      trained = true;
      EXPECT_TRUE(saved) << limit;
      continue;
    }
    refused = true;
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    EXPECT_NE(outcome.err.find("the system allows no more threads"), std::string::npos) << outcome.err;
    EXPECT_FALSE(core::exists(path("runs/" + name + "/metrics.jsonl"))) << limit;
  }
  EXPECT_TRUE(refused && trained);
}

// A text that is shortened under a run's feet: one message, and the state before it is saved.
TEST_F(Interrupt, ATextThatIsShortenedEndsTheRunWithItsState) {
  for (const int ranks : {0, 2}) {
    const std::string name = fmt::format("shortened-{}", ranks), text = read("text.txt");
    const Outcome outcome = train_and(name, ranks, {}, [&](int) { std::filesystem::resize_file(path("text.txt"), 5000); });
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    EXPECT_NE(outcome.err.find(fmt::format("text.txt was shortened while it was read: it ends at byte 5000, it had {} bytes",
                                           text.size())),
              std::string::npos)
        << outcome.err;
    EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
    const std::size_t steps = metric(name, "loss").size();
    EXPECT_TRUE(core::exists(path(fmt::format("runs/{}/checkpoints/step-{:08}/manifest.json", name, steps)))) << outcome.err;
    write("text.txt", text);
  }
}

// Rank 0 cannot write its metrics any more, of which the others know nothing: a limit that only that file has come to.
TEST_F(Interrupt, MetricsThatCannotBeWrittenEndTheRunWithItsState) {
  for (const int ranks : {0, 2}) {
    const std::string name = fmt::format("full-{}", ranks), metrics = path("runs/" + name + "/metrics.jsonl");
    train(name, {"run.steps=4"}, ranks);
    std::ofstream(metrics, std::ios::app) << R"({"step":1,"note":")" << std::string(1 << 20, '-') << "\"}\n";
    const std::int64_t before = core::file_size(metrics);
    bool done = false;
    const Outcome outcome = run_shell(command(train_arguments(name, {kLong, "log.validate_every=0"}), ranks), 90, [&](int) {
      if (done || core::file_size(metrics) < before + 1000) return;
      done = true;
      const auto most = static_cast<rlim_t>(core::file_size(metrics) + 500);
      const rlimit limit{most, most};
      std::istringstream pids(run_shell(pids_of(name)).out);
      for (pid_t pid = 0; pids >> pid;) EXPECT_EQ(prlimit(pid, RLIMIT_FSIZE, &limit, nullptr), 0);
    });
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    EXPECT_NE(outcome.err.find("metrics.jsonl: cannot be written: File too large. The state after step "), std::string::npos)
        << outcome.err;
    EXPECT_EQ(outcome.err.find("muonp: error:"), outcome.err.rfind("muonp: error:")) << outcome.err;
    const std::string saved = run_shell(command("checkpoint list runs/" + name)).out;
    const Outcome more = muonp(train_arguments(name, {"run.steps=4"}), ranks);
    EXPECT_EQ(more.status, 0) << more.err;
    EXPECT_EQ(more.out.find("is at step 4,"), std::string::npos) << saved;
  }
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
  // mpirun names the signal last, and may lose its last lines as it ends on a machine with much to do.
  const auto says = [&](const char* words) { return outcome.err.find(words) != std::string::npos; };
  EXPECT_TRUE(says("signal 9") || says("1 process returned\na non-zero exit code")) << outcome.err;
  // What was saved before opens.
  const std::size_t steps = metric(name, "loss").size();
  const Outcome more = muonp(train_arguments(name, {fmt::format("run.steps={}", steps + 1), "log.validate_every=0"}), 2);
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
    const Outcome outcome =
        train_and(name, ranks, {"parallel.timeout_seconds=2", "checkpoint.every=1"}, [&](int) { run_shell(strike); });
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
