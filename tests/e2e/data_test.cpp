// Texts on their way to tokens: being asked to stop, being killed, and what is left then.
#include <signal.h>
#include <time.h>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Data : public ProgramTest {
 protected:
  // A text that takes many seconds to encode, no word twice, and a tokenizer learned from a bit of it.
  void SetUp() override {
    ProgramTest::SetUp();
    std::string text;
    for (unsigned i = 0, state = 12345; i < 40'000'000; ++i) {
      state = state * 1664525u + 1013904223u;
      text += i % 60 == 59 ? '\n' : "ACGT"[state >> 30];
    }
    write("long.txt", text);
    write("short.txt", text.substr(0, 6000));
    ASSERT_EQ(muonp("tokenize --in short.txt --vocab 280 --out bpe.model").status, 0);
  }

  static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }

  std::vector<std::string> temporaries(const std::string& folder) const {
    std::vector<std::string> names;
    if (core::exists(path(folder)))
      for (const std::string& name : core::list_directory(path(folder)))
        if (name.find(".tmp-") != std::string::npos) names.push_back(name);
    return names;
  }

  // Runs the command and calls `act` once, when there is a half-written file in the folder that was not there before. `took`
  // is how long the command went on after that.
  Outcome while_encoding(const std::string& command, const std::string& folder, const std::function<void(int pid)>& act) {
    bool done = false;
    const std::vector<std::string> before = temporaries(folder);
    const Outcome outcome = run_shell(command, 120, [&](int pid) {
      const std::vector<std::string> now_there = temporaries(folder);
      if (done || now_there.empty() || now_there == before) return;
      done = true;
      act(pid);
      acted_ = now();
    });
    EXPECT_TRUE(done) << outcome.out << outcome.err;
    took_ = now() - acted_;
    return outcome;
  }

  std::string train_command(const std::string& name, int ranks) const {
    return command(train_arguments(name, {"data.train=long.txt", "data.tokenizer=bpe.model", "run.steps=1",
                                          "schedule.warmup=0", "log.validate_every=0", "data.validation_fraction=0"}),
                   ranks);
  }

  static std::string pids_of(const std::string& name) {
    return "pgrep -f '[m]uonp train .*run.name=" + name +
           " ' | while read p; do [ \"$(cat /proc/$p/comm)\" = muonp ] && echo $p; done";
  }

  double acted_ = 0, took_ = 0;
};

TEST_F(Data, AStopWhileTextIsEncodedEndsAllRanksSoonAndLeavesNothing) {
  for (const auto& [ranks, who] : {std::pair<int, std::string>{0, ""}, {2, " | head -n 1"}, {2, " | tail -n 1"}}) {
    const std::string name = fmt::format("stopped{}-{}", ranks, who.size());
    const Outcome outcome = while_encoding(train_command(name, ranks), "runs/" + name,
                                           [&](int) { run_shell(fmt::format("kill -TERM $({}{})", pids_of(name), who)); });
    EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
    EXPECT_NE(outcome.out.find("before the first step; the same command starts again."), std::string::npos) << outcome.out;
    EXPECT_LT(took_, 5);  // one second, and as much as a busy machine takes to end processes
    EXPECT_FALSE(core::exists(path("runs/" + name)));
  }
}

TEST_F(Data, AStopWhileTokenizingLeavesWhatWasThere) {
  write("tokens.bin", "before");
  for (const int signal : {SIGTERM, SIGINT}) {
    const Outcome outcome = while_encoding(command("tokenize --in long.txt --model bpe.model --bin tokens.bin"), "",
                                           [&](int pid) { kill(pid, signal); });
    EXPECT_EQ(outcome.status, 128 + signal) << outcome.err;
    EXPECT_NE(outcome.err.find("muonp: error: stopped by SIG"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("tokens.bin is as it was"), std::string::npos) << outcome.err;
    EXPECT_LT(took_, 5);
    EXPECT_EQ(read("tokens.bin"), "before");
    EXPECT_TRUE(temporaries("").empty());
  }
}

// Of a text that the run does not know, whose tokens are for this evaluation only.
TEST_F(Data, AStopWhileTextIsEncodedForEvaluationLeavesNothing) {
  ASSERT_EQ(run_shell(command(train_arguments("one", {"data.train=short.txt", "data.tokenizer=bpe.model", "run.steps=1",
                                                      "schedule.warmup=0", "data.batch=4"})))
                .status,
            0);
  run_shell("mkdir " + path("tmp"));
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    bool sent = false;  // once: a second signal may come when the handlers are gone, and end the program without a word
    const Outcome outcome =
        run_shell("export TMPDIR=" + path("tmp") + "; " + command("eval runs/one --data long.txt"), 120, [&](int pid) {
          if (sent || run_shell("ls " + path("tmp") + "/muonp-*/tokens-*.tmp-*").status != 0) return;
          sent = kill(pid, signal) == 0;
        });
    EXPECT_TRUE(sent) << outcome.out << outcome.err;
    EXPECT_EQ(outcome.status, 128 + signal) << outcome.out << outcome.err;
    EXPECT_NE(outcome.err.find("muonp: error: stopped by SIG"), std::string::npos) << outcome.err;
    EXPECT_EQ(core::list_directory(path("tmp")), std::vector<std::string>{});
  }
}

TEST_F(Data, AStopWhileWeightsAreExportedLeavesWhatWasThere) {
  ASSERT_EQ(run_shell(command(train_arguments("one", {"model.vocabulary=100000", "model.layers=1", "model.width=64",
                                                      "data.batch=1", "run.steps=1", "schedule.warmup=0"})))
                .status,
            0);
  write("w.safetensors", "before");
  const std::string line = fmt::format(
      "cd {}; {} checkpoint export runs/one w.safetensors & p=$!; until compgen -G 'w.safetensors.tmp-*' >/dev/null; do :; "
      "done; kill -TERM $p; wait $p",
      path(""), MUONP_PROGRAM);
  Outcome outcome;  // writing may end before the signal comes
  for (int attempt = 0; attempt < 20 && outcome.status <= 0; ++attempt) outcome = run_shell(line, 20);
  EXPECT_EQ(outcome.status, 128 + SIGTERM) << outcome.out << outcome.err;
  EXPECT_NE(outcome.err.find("stopped by SIGTERM; w.safetensors is as it was"), std::string::npos) << outcome.err;
  EXPECT_TRUE(temporaries("").empty());
}

TEST_F(Data, AStopWhileATokenizerIsLearnedLeavesNothing) {
  const double begin = now();
  const Outcome outcome = run_shell(command("tokenize --in long.txt --vocab 2000 --out other.model"), 120, [&](int pid) {
    if (acted_ > 0 || now() - begin < 2) return;
    kill(pid, SIGTERM);
    acted_ = now();
  });
  EXPECT_EQ(outcome.status, 128 + SIGTERM) << outcome.out << outcome.err;
  EXPECT_LT(now() - acted_, 5);
  EXPECT_FALSE(core::exists(path("other.model")));
  EXPECT_TRUE(temporaries("").empty());
}

TEST_F(Data, WhatAKilledRunLeftIsRemovedByTheNext) {
  const Outcome killed = while_encoding(train_command("killed", 0), "runs/killed", [](int pid) { kill(pid, SIGKILL); });
  EXPECT_EQ(killed.status, 128 + SIGKILL);
  EXPECT_EQ(temporaries("runs/killed").size(), 1u);
  const Outcome stopped = while_encoding(train_command("killed", 0), "runs/killed", [](int pid) { kill(pid, SIGTERM); });
  EXPECT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_TRUE(temporaries("runs/killed").empty());
}

}  // namespace muonp::e2e
