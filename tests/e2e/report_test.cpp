// muonp report, train --report and export-metrics as a user runs them.
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

#include "core/files/files.h"
#include "tests/e2e/program.h"

namespace muonp::e2e {

class Report : public ProgramTest {
 protected:
  std::string last_validation(const std::string& run) const { return fmt::format("{:.4f}", metric(run, "val_loss").back()); }
  void expect_refused(const std::string& arguments, const std::string& message) const {
    const Outcome outcome = muonp(arguments);
    EXPECT_EQ(outcome.status, 1) << arguments;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_TRUE(outcome.out.empty()) << outcome.out;
  }
};

TEST_F(Report, OfOneRunOnTwoRanks) {
  train("one", {"checkpoint.every=10"}, 2);
  const Outcome outcome = muonp("report runs/one");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("report: runs/one/report.html"), std::string::npos) << outcome.out;
  const std::string page = read("runs/one/report.html");
  for (const std::string& text : {std::string("finished, 30 steps"), "<b>" + last_validation("one") + "</b>",
                                  std::string("imbalance"), std::string("3 checkpoints"), std::string("2 ranks")})
    EXPECT_NE(page.find(text), std::string::npos) << text;
}

// A crash leaves steps that are trained again, and a line that is cut off; then two runs side by side.
TEST_F(Report, OfARunThatCrashedAndWasResumed) {
  train("whole", {"optimizer.matrices.p=0"});
  train("crashed", {"run.steps=20", "checkpoint.every=10"});
  const std::string metrics = path("runs/crashed/metrics.jsonl"), before = read("runs/crashed/metrics.jsonl");
  std::ofstream(metrics, std::ios::app) << before.substr(before.find("{\"step\":18")) << "{\"step\":19,\"lo";
  ASSERT_EQ(muonp("report runs/crashed --out crashed.html").status, 0);
  const std::string page = read("crashed.html");
  EXPECT_NE(page.find("finished, 20 steps"), std::string::npos);
  EXPECT_NE(page.find("mean of the last 20<"), std::string::npos);  // not 23
  train("crashed", {"checkpoint.every=10"});
  ASSERT_EQ(muonp("report runs/crashed runs/whole").status, 0);
  const std::string both = read("runs/crashed/comparison.html");
  EXPECT_NE(both.find("<code>optimizer.matrices.p</code></th><td>1/2</td><td>0</td>"), std::string::npos);
  EXPECT_NE(both.find("<td>" + last_validation("crashed") + "</td>"), std::string::npos);
  EXPECT_NE(both.find("<td>" + last_validation("whole") + "</td>"), std::string::npos);
}

TEST_F(Report, IsKeptUpToDateWhileARunGoesOn) {
  const std::string page = path("runs/live/report.html");
  int seen = 0, cut = 0;
  bool refreshes = false;
  const auto look = [&](int) {
    if (!core::exists(page)) return;
    const std::string text = core::read_file(page);
    ++seen;
    cut += !text.ends_with("</html>\n");
    refreshes = refreshes || text.find("http-equiv=\"refresh\"") != std::string::npos;
  };
  const Outcome outcome =
      run_shell(command(train_arguments("live", {"run.steps=300", "log.hash_every=0"}) + " --report"), 120, look);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_GT(seen, 0);
  EXPECT_EQ(cut, 0);
  EXPECT_TRUE(refreshes);
  const std::string text = read("runs/live/report.html");
  EXPECT_NE(text.find("finished, 300 steps"), std::string::npos);
  EXPECT_EQ(text.find("http-equiv=\"refresh\""), std::string::npos);
  EXPECT_EQ(muonp("report runs/live --out again.html").status, 0);
}

TEST_F(Report, WhatCannotBeReportedIsSaid) {
  std::filesystem::create_directories(path("runs/empty"));
  std::filesystem::create_directories(path("runs/starting"));
  std::filesystem::create_directories(path("runs/damaged"));
  write("runs/starting/metrics.jsonl", "");
  write("runs/damaged/metrics.jsonl", "{\"step\":1,\"loss\":1}\n{\"st\n");
  for (const std::string command : {"report ", "export-metrics --csv a.csv "}) {
    expect_refused(command + "runs/none", "runs/none: no such file; a run's folder or its metrics.jsonl is needed");
    expect_refused(command + "runs/empty", "runs/empty: no run has written to this folder");
    expect_refused(command + "runs/damaged", "runs/damaged/metrics.jsonl:2: not a JSON object");
  }
  expect_refused("report runs/starting", "there is nothing to show yet");
  expect_refused("export-metrics runs/starting --tensorboard t", "there is nothing to export yet");
  EXPECT_EQ(muonp("export-metrics runs/starting").status, 2);
  write("runs/starting/metrics.jsonl", "{\"step\":1,\"loss\":1}\n");
  expect_refused("report runs/starting --out none/page.html", "none/page.html");
  EXPECT_FALSE(core::exists(path("a.csv")) || core::exists(path("t")) || core::exists(path("runs/damaged/report.html")));
}

TEST_F(Report, ExportsMetrics) {
  train("one", {});
  ASSERT_EQ(muonp("export-metrics runs/one --csv one.csv --tensorboard events").status, 0);
  const std::string csv = read("one.csv");
  EXPECT_TRUE(csv.starts_with("step,loss,lr,grad_norm,seconds,tokens,")) << csv.substr(0, 200);
  EXPECT_EQ(std::ranges::count(csv, '\n'), static_cast<std::ptrdiff_t>(steps()) + 1);
  EXPECT_GT(core::file_size(path("events/events.out.tfevents.1.muonp")), 1000);
}

// The memory does not depend on the size of the file.
TEST_F(Report, OfAnyNumberOfStepsInTheSameMemory) {
  std::filesystem::create_directories(path("runs/long"));
  {
    std::ofstream file(path("runs/long/metrics.jsonl"));
    const std::string note(400, 'x');
    for (int step = 1; step <= 200'000; ++step)
      file << fmt::format("{{\"step\":{},\"loss\":{},\"lr\":0.1,\"grad_norm\":{},\"note\":\"{}\"}}\n", step, 3 + 1e-6 * step,
                          step == 123'457 ? 77.5 : 1.0, note);
  }
  const std::int64_t bytes = core::file_size(path("runs/long/metrics.jsonl"));
  ASSERT_GT(bytes, 80'000'000);
  ASSERT_EQ(muonp("report runs/long --out long.html").status, 0);
  rusage use{};
  getrusage(RUSAGE_CHILDREN, &use);
  EXPECT_LT(use.ru_maxrss * 1024, bytes / 2 + 60'000'000);
  const std::string page = read("long.html");
  EXPECT_NE(page.find("77.5"), std::string::npos) << "the one high value is gone";
  EXPECT_NE(page.find("200000"), std::string::npos);
  EXPECT_LT(page.size(), 1'000'000u);
  ASSERT_EQ(muonp("export-metrics runs/long --csv long.csv").status, 0);
  getrusage(RUSAGE_CHILDREN, &use);
  EXPECT_LT(use.ru_maxrss * 1024, bytes / 2 + 60'000'000);
}

}  // namespace muonp::e2e
