#include "launch/html/page.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <regex>

#include "tests/launch/html/spectra_lines.h"
#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ReportPage : public test::FileTest {
 protected:
  RunRecord run(const std::string& name, const std::string& settings = "", const std::string& more = "") const {
    std::string lines;
    for (int step = 1; step <= 40; ++step) {
      lines += fmt::format(
          R"({{"step":{},"loss":{},"lr":0.01,"grad_norm":1.5,"seconds":{},"tokens":{},"step_seconds":0.5,"spectral_seconds":0.1,)"
          R"("communication_seconds":0.15,"sent_bytes":{},"skipped":{},"spike":false}})"
          "\n",
          step, 5.0 - step * 0.1, step * 0.5, step * 100, step * 1000, step == 7);
      if (step % 20 == 0) lines += fmt::format("{{\"step\":{},\"val_loss\":{}}}\n", step, step == 20 ? 2.0 : 2.25);
    }
    std::filesystem::create_directories(path(name));
    make(name + "/metrics.jsonl", lines + more);
    make(name + "/config.resolved.yaml", "run: {name: x, steps: 40}\n" + settings);
    return read_run_record(path(name));
  }
  static std::string page_of(const std::vector<const RunRecord*>& records, ReportOptions options = {}) {
    std::vector<ReportedRun> runs;
    for (const RunRecord* record : records) runs.push_back({record, state_of(*record, false)});
    label_runs(runs);
    if (options.refreshed.empty()) options.refreshed = "2026-03-01 14:05:09 UTC";
    return render_report(runs, options);
  }
};

TEST_F(ReportPage, SaysTheEssentialsWithoutAScript) {
  const RunRecord record = run("one");
  const std::string page = page_of({&record});
  for (const char* text : {"<h1>one</h1>", "finished, 40 steps", "<b>2.2500</b>", "<b>2.0000</b><span>at step 20</span>"})
    EXPECT_THAT(page, HasSubstr(text));
  EXPECT_THAT(page, HasSubstr("<b>2.9500</b><span>mean of the last 40</span>"));
  EXPECT_THAT(page, HasSubstr("<b>200</b><span>mean of the run</span>"));  // tokens/s
  EXPECT_THAT(page, HasSubstr("1 step skipped: 7."));
  EXPECT_THAT(page, HasSubstr("refreshed <time>2026-03-01 14:05:09 UTC</time>"));
  for (const char* share :
       {"250.0 ms</span> <small>50.0 %", "100.0 ms</span> <small>20.0 %", "150.0 ms</span> <small>30.0 %"})
    EXPECT_THAT(page, HasSubstr(share));
}

TEST_F(ReportPage, NeedsNothingFromElsewhere) {
  const RunRecord record = run("one");
  const std::string page = page_of({&record});
  EXPECT_FALSE(std::regex_search(page, std::regex(R"((src|href|action|data)\s*=\s*"(?!#))"))) << "something is loaded";
  EXPECT_FALSE(std::regex_search(page, std::regex(R"(https?:|//[a-z]+\.|@import|url\()")));
  EXPECT_THAT(page, Not(HasSubstr("{{")));
}

TEST_F(ReportPage, NamesAreTextAndNotMarkup) {
  const RunRecord a = run("a<b>&\"c\"", "log: {name: \"<script>alert(1)</script>\"}\n"),
                  b = run("other", "log: {name: plain}\n");
  for (const std::string& page : {page_of({&a}), page_of({&a, &b})}) {
    EXPECT_THAT(page, Not(HasSubstr("a<b>")));
    EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(page, HasSubstr("a&lt;b&gt;&amp;&quot;c&quot;"));
  }
}

TEST_F(ReportPage, RunsSideBySideWithTheSettingsThatDiffer) {
  const RunRecord a = run("a", "optimizer: {matrices: {p: 1/2, lr: 0.01}}\n"),
                  b = run("b", "optimizer: {matrices: {p: 0, lr: 0.01}}\n");
  const std::string page = page_of({&a, &b});
  EXPECT_THAT(page, HasSubstr("<tr><th scope=\"row\"><code>optimizer.matrices.p</code></th><td>1/2</td><td>0</td></tr>"));
  const std::size_t same = page.find("Settings that are the same");
  ASSERT_NE(same, std::string::npos);
  EXPECT_GT(page.find("<code>optimizer.matrices.lr</code>"), same);
  EXPECT_THAT(page, HasSubstr("a, validation"));
  EXPECT_THAT(page, HasSubstr("b, validation"));
  EXPECT_THAT(page_of({&a, &a}), HasSubstr("None: the runs have the same settings."));
}

TEST_F(ReportPage, RefreshesItselfWhileTheRunGoesOnOnly) {
  const RunRecord record = run("one");
  EXPECT_THAT(page_of({&record}), Not(HasSubstr("http-equiv=\"refresh\"")));
  EXPECT_THAT(page_of({&record}, {.refreshed = "", .refresh_seconds = 12}),
              HasSubstr("<meta http-equiv=\"refresh\" content=\"12\">"));
}

TEST_F(ReportPage, PanelsAreThereWhereTheNumbersAre) {
  const RunRecord plain = run("plain");
  for (const char* id : {"id=\"spectra\"", "id=\"evaluations\"", "id=\"ranks\"", "id=\"other\""})
    EXPECT_THAT(page_of({&plain}), Not(HasSubstr(id)));
  const RunRecord rich = run(
      "rich", "", "{\"step\":40,\"eval.icl.accuracy\":0.25}\n{\"step\":40,\"new_number\":7}\n" + test::spectra_lines(40));
  const std::string page = page_of({&rich});
  for (const char* text : {"id=\"spectra\"", "id=\"evaluations\"", "<h3>icl.accuracy</h3>", "<h3>new_number</h3>",
                           "<code>blocks.mlp.up.weight</code>", "id=\"ranks-blocks-mlp-up-weight-momentum\"",
                           "id=\"sigma-0-blocks-mlp-up-weight-update\"", "id=\"layers-0-blocks-mlp-up-weight-weight\"",
                           "<h3>Cosine of momentum and weight</h3>"})
    EXPECT_THAT(page, HasSubstr(text));
  EXPECT_THAT(page, Not(HasSubstr("Lag of the error feedback")));
  EXPECT_THAT(page_of({&plain, &rich}), HasSubstr("rich, effective"));
}

TEST_F(ReportPage, RanksAreShownAsPlanned) {
  RunRecord record = run("one");
  StartRecord start{.device = "CPU", .ranks = "2 ranks on 1 host", .imbalance = 1.2};
  start.weights = start.gradients = start.optimizer = start.exchange = start.activations =
      start.snapshot = {1 << 20, 2 << 20};
  start.host = {0, 0}, start.load = {6, 4}, start.matrices = {3, 2};
  record.start = start;
  const std::string page = page_of({&record});
  EXPECT_THAT(page, HasSubstr("imbalance 1.200 (largest load / mean)"));
  EXPECT_THAT(page, HasSubstr("<td>1.200</td><td>3</td>"));
  EXPECT_THAT(page, HasSubstr("<td>0.800</td><td>2</td>"));
  EXPECT_THAT(page, HasSubstr("<b>5.00 MiB</b><span>planned</span>"));  // with the larger of exchange and activations
}

TEST_F(ReportPage, StatesOfARun) {
  const RunRecord record = run("one");
  EXPECT_EQ(state_of(record, true), RunState::running);
  EXPECT_EQ(state_of(record, false), RunState::finished);
  RunRecord shorter = record;
  shorter.planned_steps = 50;
  EXPECT_EQ(state_of(shorter, false), RunState::stopped);
  EXPECT_THAT(page_of({&shorter}), HasSubstr("stopped at step 40 of 50"));
}

TEST_F(ReportPage, RunsOfOneNameAreToldApart) {
  std::filesystem::create_directories(path("x"));
  std::filesystem::create_directories(path("y"));
  const RunRecord a = run("x/one"), b = run("y/one");
  EXPECT_THAT(page_of({&a, &b}), HasSubstr("/y/one"));
}

}  // namespace
}  // namespace muonp::launch
