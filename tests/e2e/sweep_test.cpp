// muonp sweep as a user runs it: to its end, killed, interrupted, with runs that fail.
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Sweep : public ProgramTest {
 protected:
  // Of the tiny configuration; the folder is runs/s.
  void write_sweep(const std::string& yaml) const { write("s.yaml", "base: tiny.yaml\n" + yaml); }
  Outcome sweep(const std::string& options = "") const { return muonp("sweep s.yaml " + options, 0, 180); }
  nlohmann::json results() const { return nlohmann::json::parse(muonp("sweep s.yaml --report --json").out); }
  std::string record(const std::string& run) const {
    return nlohmann::json::parse(read("runs/s/" + run + "/sweep.json"))["state"];
  }
  // When each run's metrics were last written; what is not run again keeps its time.
  std::map<std::string, std::filesystem::file_time_type> times() const {
    std::map<std::string, std::filesystem::file_time_type> all;
    for (const auto& entry : std::filesystem::directory_iterator(path("runs/s")))
      if (const auto file = entry.path() / "metrics.jsonl"; std::filesystem::exists(file))
        all[entry.path().filename().string()] = std::filesystem::last_write_time(file);
    return all;
  }
  // Starts the sweep, calls `act` with the process id of muonp once `run` has done some steps.
  Outcome sweep_and(const std::string& run, const std::function<void(int pid)>& act) const {
    bool done = false;
    const std::string metrics = path("runs/s/" + run + "/metrics.jsonl");
    const std::int64_t before = core::exists(metrics) ? core::file_size(metrics) : 0;  // of what it goes on from
    return run_shell(command("sweep s.yaml"), 120, [&](int pid) {
      if (done || !core::exists(metrics) || core::file_size(metrics) < before + 2000) return;
      done = true;
      act(pid);
    });
  }
  // Process ids of runs that are there still; of this test, since others may run beside it.
  std::string children() const {
    return run_shell(fmt::format("for p in $(pgrep -f 'train [t]iny.yaml .*run.dir=runs/s'); do "
                                 "[ \"$(readlink /proc/$p/cwd)/\" = {} ] && echo $p; done",
                                 path("")))
        .out;
  }
};

TEST_F(Sweep, ComparesAndRunsNothingAgain) {
  write_sweep(R"(arms:
  - {name: Muon, set: {optimizer.matrices.p: 0}, grid: {optimizer.matrices.lr: [1e-3, 1e-2]}}
  - {name: adamw, set: {optimizer.matrices.rule: adamw}, grid: {optimizer.matrices.lr: [1e-3]}}
set: {run.steps: 8, checkpoint.at_end: false}
best: {seeds: [1, 2]}
jobs: 2
)");
  const Outcome dry = sweep("--dry");
  EXPECT_EQ(dry.status, 0) << dry.err;
  EXPECT_NE(dry.out.find("Muon-lr-1e-2-seed-1"), std::string::npos) << dry.out;
  EXPECT_NE(dry.out.find("5 runs in runs/s"), std::string::npos) << dry.out;
  EXPECT_FALSE(core::exists(path("runs/s"))) << "--dry touches nothing";

  const Outcome first = sweep();
  EXPECT_EQ(first.status, 0) << first.out << first.err;
  for (const char* text : {"best setting", "Muon", "adamw", "figure: runs/s/sweep.svg", "within 1 %"})
    EXPECT_NE(first.out.find(text), std::string::npos) << text << " in\n" << first.out;
  EXPECT_TRUE(read("runs/s/sweep.svg").starts_with("<svg"));
  EXPECT_FALSE(core::exists(path("runs/s/run.lock")));
  const auto before = times();
  EXPECT_EQ(before.size(), 5u);

  const nlohmann::json j = results();
  EXPECT_EQ(j["runs"].size(), 5u);
  EXPECT_EQ(j["arms"][0]["value"]["values"].size(), 2u);
  const std::string best = j["arms"][0]["best_settings"]["optimizer.matrices.lr"];
  const std::vector<double> losses = metric("s/Muon-lr-" + best + "-seed-2", "val_loss");
  EXPECT_EQ(j["arms"][0]["value"]["values"][1], losses.back());
  // The child was given the settings: another run of the same has the same loss.
  train("alone", {"optimizer.matrices.p=0", "run.seed=2", "run.steps=8", "optimizer.matrices.lr=" + best});
  EXPECT_EQ(metric("alone", "val_loss").back(), losses.back());

  const Outcome again = sweep();
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(times(), before);
  EXPECT_EQ(again.out.find("a step"), std::string::npos) << again.out;
}

TEST_F(Sweep, GoesOnAfterAKill) {
  write_sweep(
      "set: {run.steps: 100, checkpoint.at_end: false}\ngrid: {optimizer.matrices.lr: [1e-3, 1e-2]}\nseeds: [1, 2]\njobs: "
      "1\n");
  const Outcome killed = sweep_and("lr-1e-3-seed-2", [](int pid) { ::kill(pid, SIGKILL); });
  EXPECT_EQ(killed.status, 128 + SIGKILL);
  EXPECT_EQ(record("lr-1e-3-seed-1"), "complete");
  EXPECT_NE(record("lr-1e-3-seed-2"), "complete");
  const auto before = times();
  const Outcome rest = sweep();
  EXPECT_EQ(rest.status, 0) << rest.out << rest.err;
  EXPECT_EQ(times().at("lr-1e-3-seed-1"), before.at("lr-1e-3-seed-1")) << "a complete run was run again";
  EXPECT_EQ(children(), "");
  // As if nothing had happened.
  train("alone", {"run.seed=2", "run.steps=100", "optimizer.matrices.lr=1e-3"});
  EXPECT_EQ(metric("s/lr-1e-3-seed-2", "loss"), metric("alone", "loss"));
  EXPECT_EQ(results()["arms"][0]["runs"]["complete"], 4);
}

TEST_F(Sweep, CtrlCEndsTheRunsAndTheSameCommandGoesOn) {
  write_sweep(
      "set: {run.steps: 3000, log.validate_every: 0, checkpoint.at_end: false}\ngrid: {optimizer.matrices.lr: [1e-3, "
      "1e-2]}\n");
  for (const int signal : {SIGINT, SIGTERM}) {
    const Outcome stopped = sweep_and("lr-1e-3-seed-1", [signal](int pid) { ::kill(pid, signal); });
    EXPECT_EQ(stopped.status, 128 + signal) << stopped.out << stopped.err;
    EXPECT_NE(stopped.err.find("the same command goes on"), std::string::npos) << stopped.err;
    EXPECT_EQ(children(), "");
    EXPECT_EQ(record("lr-1e-3-seed-1"), "unfinished");
  }
  EXPECT_TRUE(core::exists(path("runs/s/lr-1e-3-seed-1/checkpoints"))) << "it saves what it has";
  const std::size_t steps_before = metric("s/lr-1e-3-seed-1", "loss").size();
  const Outcome again = sweep_and("lr-1e-3-seed-1", [](int pid) { ::kill(pid, SIGINT); });
  EXPECT_EQ(again.status, 128 + SIGINT);
  EXPECT_GT(metric("s/lr-1e-3-seed-1", "loss").size(), steps_before) << "it went on from its checkpoint";
}

TEST_F(Sweep, AFailureIsShownAndTheOthersAreRun) {
  write_sweep("set: {run.steps: 4, checkpoint.at_end: false}\nlist: [{data.train: nowhere.txt}, {data.train: text.txt}]\n");
  const Outcome outcome = sweep();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.out.find("train-nowhere.txt-seed-1 failed: "), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("nowhere.txt"), std::string::npos);
  EXPECT_EQ(record("train-nowhere.txt-seed-1"), "failed");
  EXPECT_EQ(record("train-text.txt-seed-1"), "complete");
  write("nowhere.txt", read("text.txt"));  // what was wrong is mended
  EXPECT_EQ(sweep().status, 0);
  EXPECT_EQ(record("train-nowhere.txt-seed-1"), "complete");
}

TEST_F(Sweep, ALossThatIsNoneEndsItsRunEarly) {
  write_sweep(
      "set: {run.steps: 2000, log.validate_every: 0, optimizer.clip: 0, optimizer.others.rule: sgd, guard.max_skipped: "
      "100000, "
      "checkpoint.at_end: false}\n"
      "grid: {optimizer.others.lr: [1e30, 1e-3]}\nmetric: loss\njobs: 1\n");
  const Outcome outcome = sweep();
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  EXPECT_EQ(record("lr-1e30-seed-1"), "not finite");
  EXPECT_LT(metric("s/lr-1e30-seed-1", "loss").size(), 2000u);
  EXPECT_NE(outcome.out.find("lr-1e30-seed-1 is not finite: the loss of step "), std::string::npos) << outcome.out;
  EXPECT_EQ(results()["arms"][0]["runs"]["not_finite"], 1);
}

TEST_F(Sweep, TwoOnOneFolderAreToldSo) {
  write_sweep("set: {run.steps: 3000, log.validate_every: 0, checkpoint.at_end: false}\n");
  Outcome second;
  sweep_and("run-seed-1", [&](int pid) {
    second = sweep();
    ::kill(pid, SIGTERM);
  });
  EXPECT_EQ(second.status, 1);
  EXPECT_NE(second.err.find("runs/s is in use by another run (process "), std::string::npos) << second.err;
  EXPECT_NE(second.err.find("choose another folder"), std::string::npos) << second.err;
}

TEST_F(Sweep, BadFilesRunNothing) {
  write_sweep("grid: {optimizer.matrices.moment: [0.9]}\n");
  const Outcome outcome = sweep();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("optimizer.matrices.moment"), std::string::npos) << outcome.err;
  EXPECT_FALSE(core::exists(path("runs/s")));
  write_sweep("metric: vall_loss\nset: {run.steps: 4, checkpoint.at_end: false}\n");
  const Outcome metric = sweep();
  EXPECT_EQ(metric.status, 1);
  EXPECT_NE(metric.err.find("has 'vall_loss'"), std::string::npos) << metric.err;
  write_sweep("set: {run.steps: 5, checkpoint.at_end: false}\n");
  EXPECT_NE(sweep().err.find("run.steps was 4 and is 5 now"), std::string::npos)
      << "another sweep's runs are not taken for this one's";
}

TEST_F(Sweep, RunsHaveRanks) {
  write_sweep(
      fmt::format("ranks: 2\nlauncher: {}\nset: {{run.steps: 4, checkpoint.at_end: false}}\n"
                  "grid: {{parallel.zero: [0, 1]}}\n",
                  MUONP_MPIRUN));
  const Outcome outcome = sweep();
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  EXPECT_NE(read("runs/s/zero-1-seed-1/output.log").find("2 ranks"), std::string::npos);
  EXPECT_EQ(outcome.out.find("| 0 B"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("sent a step"), std::string::npos) << outcome.out;
  write_sweep("ranks: 2\nlauncher: nowhere/mpirun.sh\nset: {run.steps: 4}\n");
  EXPECT_NE(sweep("--folder runs/other").err.find("nowhere/mpirun.sh cannot be started"), std::string::npos);
}

}  // namespace muonp::e2e
