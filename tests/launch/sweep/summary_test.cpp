// The numbers of the table, from metrics that were written for it.
#include "launch/sweep/summary.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "launch/sweep/presentation.h"
#include "launch/sweep/sweep_progress.h"
#include "tests/launch/sweep/sweep_fixture.h"

namespace muonp::launch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Summaries : public SweepTest {
 protected:
  // A loss for each run, in order; "" for none.
  static void fill(const std::vector<SweepRun>& runs, const std::vector<std::string>& losses) {
    for (std::size_t i = 0; i < losses.size(); ++i)
      if (!losses[i].empty()) complete(runs[i], {losses[i]});
  }
  static SweepSummary summary_of(const Expansion& sweep) { return summarize(sweep, read_results(sweep)); }
  static std::string text_of(const Expansion& sweep) {
    const Results results = read_results(sweep);
    const SweepSummary summary = summarize(sweep, results);
    std::string text = arms_table(sweep, summary).render(BoxStyle::ascii) + "\n";
    for (const std::string& line : remarks(sweep, summary, results)) text += line + "\n";
    return text;
  }
};

constexpr const char* kRates = "grid: {optimizer.matrices.lr: [0.001, 0.01, 0.1, 1]}\n";

TEST_F(Summaries, MeanAndSpreadOverSeeds) {
  const Estimate e = estimate({1, 2, 4});
  EXPECT_NEAR(e.mean, 7.0 / 3, 1e-15);
  EXPECT_NEAR(e.spread, std::sqrt(7.0 / 3), 1e-14);  // of the sample: squares 16/9 + 1/9 + 25/9 over 2
  EXPECT_EQ(estimate({5}).spread, 0);

  const Expansion all = sweep("grid: {data.batch: [2, 4]}\nseeds: [1, 2]\n");
  fill(all.runs(), {"3.0", "5.0", "3.5", "3.7"});
  const SweepSummary s = summary_of(all);
  EXPECT_EQ(s.arms[0].best, 1u) << "the mean decides, not the best run";
  EXPECT_NEAR(s.arms[0].at_best->mean, 3.6, 1e-12);
  EXPECT_NEAR(s.arms[0].at_best->spread, 0.2 / std::sqrt(2), 1e-12);
  EXPECT_THAT(text_of(all), HasSubstr("3.6000 ± 0.1414"));
}

TEST_F(Summaries, ValuesWithinOnePercentOfTheBest) {
  const Expansion all = sweep(kRates);
  fill(all.runs(), {"4.00", "4.039", "4.041", "4.0"});
  const ArmSummary arm = summary_of(all).arms[0];
  EXPECT_EQ(arm.best, 0u) << "of equal ones the first";
  EXPECT_EQ(arm.tolerance->low, 0.001);
  EXPECT_EQ(arm.tolerance->high, 0.01) << "0.1 is more than 1 % above, and parts it from 1";
  EXPECT_TRUE(arm.tolerance->low_open && !arm.tolerance->high_open);
  EXPECT_TRUE(arm.at_edge);
  EXPECT_THAT(text_of(all), AllOf(HasSubstr("≤ 0.001 to 0.01"), HasSubstr("lr within 1 %"),
                                  HasSubstr("lr 0.001, lies at the end of what was tried of optimizer.matrices.lr")));
}

TEST_F(Summaries, ABestInsideIsNoEdge) {
  const Expansion all = sweep(kRates);
  fill(all.runs(), {"4.5", "4.0", "4.02", "7"});
  const ArmSummary arm = summary_of(all).arms[0];
  EXPECT_FALSE(arm.at_edge);
  EXPECT_EQ(arm.tolerance->low, 0.01);
  EXPECT_EQ(arm.tolerance->high, 0.1);
  EXPECT_FALSE(arm.tolerance->low_open || arm.tolerance->high_open);
  EXPECT_THAT(text_of(all), Not(HasSubstr("end of what was tried")));
}

TEST_F(Summaries, ALossThatIsNoneIsCountedAndNeverBest) {
  const Expansion all = sweep(kRates);
  fill(all.runs(), {"4.5", "4.0", "null", ""});
  write_record(all.runs()[3], {RunState::not_finite, "the loss of step 3"});
  const SweepSummary s = summary_of(all);
  EXPECT_EQ(s.arms[0].best, 1u);
  EXPECT_EQ(s.arms[0].counts.not_finite, 2);
  EXPECT_EQ(s.arms[0].counts.complete, 2);
  EXPECT_FALSE(s.arms[0].at_edge) << "beyond it lies what was tried and was none";
  EXPECT_THAT(text_of(all), AllOf(HasSubstr("2 of 4"), HasSubstr("lr-1-seed-1 is not finite: the loss of step 3")));
  EXPECT_EQ(sweep_plot(all, s).series[0].lost.size(), 2u);
  EXPECT_THAT(sweep_plot(all, s).subtitle, HasSubstr("crosses: not finite"));
}

TEST_F(Summaries, OneSeedThatIsNoneTakesTheSettingOut) {
  const Expansion all = sweep("grid: {data.batch: [2, 4]}\nseeds: [1, 2]\n");
  fill(all.runs(), {"1.0", "null", "3.5", "3.7"});
  EXPECT_EQ(summary_of(all).arms[0].best, 1u);
}

TEST_F(Summaries, FailuresAreCountedAndQuoted) {
  const Expansion all = sweep(kRates);
  fill(all.runs(), {"", "4.0", "4.5", ""});
  write_record(all.runs()[0], {RunState::failed, "out of memory"});
  const SweepSummary s = summary_of(all);
  EXPECT_EQ(s.arms[0].counts.failed, 1);
  EXPECT_EQ(s.arms[0].counts.missing, 1);
  EXPECT_THAT(text_of(all), HasSubstr("lr-0.001-seed-1 failed: out of memory ("));
}

TEST_F(Summaries, ArmsHaveTheirOwnBestAndTheBestOfThemIsMarked) {
  const Expansion all = sweep(R"(arms:
  - {name: slow, set: {data.batch: 2}, grid: {optimizer.matrices.lr: [0.01, 0.02]}}
  - {name: fast, set: {data.batch: 8}, grid: {optimizer.matrices.lr: [0.1, 0.2]}}
best: {seeds: [1, 2, 3]}
)");
  fill(all.runs(), {"4.2", "4.1", "3.9", "4.0"});
  EXPECT_EQ(summary_of(all).best_arm, 1u);
  EXPECT_FALSE(summary_of(all).arms[1].own_seeds);
  fill(all.runs_at_best(2), {"3.9", "4.4", "4.9"});  // its other seeds are worse
  fill(all.runs_at_best(1), {"4.1", "4.2", "4.3"});
  const SweepSummary s = summary_of(all);
  EXPECT_EQ(s.arms[1].best, 2u) << "the settings are compared at the seeds of all";
  EXPECT_NEAR(s.arms[1].at_best->mean, 4.4, 1e-12);
  EXPECT_NEAR(s.arms[1].at_best->spread, 0.5, 1e-12);
  EXPECT_EQ(s.arms[1].counts.complete, 4);
  EXPECT_EQ(s.best_arm, 0u);
  EXPECT_THAT(text_of(all), AllOf(HasSubstr("| slow * |"), HasSubstr("4.2000 ± 0.1000"), HasSubstr("4.4000 ± 0.5000")));
  const Plot plot = sweep_plot(all, s);
  ASSERT_EQ(plot.series.size(), 2u);
  EXPECT_EQ(plot.series[1].strong[0].y, 3.9) << "the curve is at the seeds of all";
  EXPECT_NEAR(plot.series[1].marks[0].y, 4.4, 1e-12);
  EXPECT_NEAR(plot.series[1].marks[0].error, 0.5, 1e-12);
}

TEST_F(Summaries, HigherCanBeBetter) {
  const Expansion all = sweep("better: higher\n" + std::string(kRates));
  fill(all.runs(), {"0.5", "0.9", "0.895", "0.1"});
  const ArmSummary arm = summary_of(all).arms[0];
  EXPECT_EQ(arm.best, 1u);
  EXPECT_EQ(arm.tolerance->high, 0.1);
}

TEST_F(Summaries, OverTheAxisTheBestOfTheOthersCounts) {
  const Expansion all = sweep("grid: {optimizer.matrices.momentum: [0.8, 0.9], optimizer.matrices.lr: [0.01, 0.1]}\n");
  fill(all.runs(), {"4.0", "5.0", "4.5", "3.0"});
  const SweepSummary s = summary_of(all);
  EXPECT_EQ(s.axis, "optimizer.matrices.lr") << "a learning rate is the axis where there is one";
  ASSERT_EQ(s.curves[0].size(), 2u);
  EXPECT_EQ(s.curves[0][0].point, 0u);
  EXPECT_EQ(s.curves[0][1].point, 3u);
  EXPECT_TRUE(s.log_axis);
}

TEST_F(Summaries, TheAxisTakesNumbers) {
  EXPECT_EQ(axis_of(sweep("grid: {optimizer.matrices.rule: [muonp, adamw], data.batch: [2, 4]}\n")), "data.batch");
  EXPECT_EQ(axis_of(sweep("grid: {optimizer.matrices.rule: [muonp, adamw]}\n")), "");
  EXPECT_EQ(
      axis_of(sweep("axis: optimizer.matrices.p\ngrid: {optimizer.matrices.p: [0, 1/2], optimizer.matrices.lr: [1]}\n")),
      "optimizer.matrices.p");
  EXPECT_THAT(error_of([&] { axis_of(sweep("axis: data.batch\n" + std::string(kRates))); }),
              AllOf(HasSubstr("axis: data.batch"), HasSubstr("there are optimizer.matrices.lr")));
}

TEST_F(Summaries, WithoutAnAxisThePictureHasNames) {
  const Expansion all =
      sweep("arms: [{name: one, set: {data.batch: 2}}, {name: two, set: {data.batch: 4}}]\nseeds: [1, 2]\n");
  fill(all.runs(), {"3.0", "3.2", "4.0", "4.4"});
  const Plot plot = sweep_plot(all, summary_of(all));
  EXPECT_THAT(plot.x_names, ElementsAre("one", "two"));
  EXPECT_NEAR(plot.series[0].marks[1].y, 4.2, 1e-12);
  EXPECT_THAT(render_svg(plot), HasSubstr(">two</text>"));
}

TEST_F(Summaries, SettingsFarOffLeaveThePicture) {
  const Expansion all = sweep("grid: {optimizer.matrices.lr: [0.001, 0.01, 0.1, 1, 10]}\n");
  fill(all.runs(), {"4.2", "4.0", "4.1", "4.3", "90"});
  const Plot plot = sweep_plot(all, summary_of(all));
  EXPECT_LT(plot.y_top, 10);
  EXPECT_GT(plot.y_top, 4.3);
}

TEST_F(Summaries, NothingIsKnownOfASweepThatHasNotBegun) {
  const SweepSummary s = summary_of(sweep(kRates));
  EXPECT_FALSE(s.best_arm || s.arms[0].best);
  EXPECT_EQ(s.arms[0].counts.missing, 4);
}

TEST_F(Summaries, FurtherMetricsAreThoseOfTheBest) {
  const Expansion all = sweep("also: [grad_norm]\nseeds: [1, 2]\n");
  fill(all.runs(), {"3.0", "3.2"});
  const ArmSummary arm = summary_of(all).arms[0];
  EXPECT_EQ(arm.also[0].mean, 1.0);
  EXPECT_EQ(arm.seconds_per_step, 0.5);
  EXPECT_EQ(arm.sent_per_step, 100);
  EXPECT_THAT(text_of(all), AllOf(HasSubstr("grad_norm"), HasSubstr("100 B"), HasSubstr("500 ms")));
}

TEST_F(Summaries, JsonHasEverything) {
  const Expansion all = sweep("grid: {optimizer.matrices.lr: [0.01, 0.1]}\nbest: {seeds: [1, 2]}\n");
  fill(all.runs(), {"4.0", "null"});
  fill(all.runs_at_best(0), {"", "4.5"});
  const Results results = read_results(all);
  const auto j = nlohmann::json::parse(sweep_json(all, summarize(all, results), results, "f.svg"));
  EXPECT_EQ(j["axis"], "optimizer.matrices.lr");
  EXPECT_EQ(j["arms"][0]["value"]["mean"], 4.25);
  EXPECT_EQ(j["arms"][0]["value"]["values"], (std::vector<double>{4.0, 4.5}));
  EXPECT_EQ(j["arms"][0]["best_settings"]["optimizer.matrices.lr"], "0.01");
  EXPECT_EQ(j["arms"][0]["runs"]["not_finite"], 1);
  EXPECT_EQ(j["runs"].size(), 3u);
  EXPECT_EQ(j["runs"][1]["state"], "not_finite");
  EXPECT_TRUE(j["runs"][1]["value"].is_null());
  EXPECT_EQ(j["runs"][2]["seed"], 2);
  EXPECT_EQ(j["figure"], "f.svg");
}

// A better setting was added to a sweep that was over: its seeds are still to come, and those at the old one stay.
TEST_F(Summaries, ProgressCountsTheRunsThatAreLeft) {
  const Expansion sweep = this->sweep("set: {run.steps: 10}\n" + std::string(kRates) + "best: {seeds: [1, 2, 3]}\n");
  std::FILE* const out = std::tmpfile();
  double now = 0;
  SweepProgress progress({40, 4}, {30, 3}, sweep.file(), {.out = out, .line_seconds = 1, .clock = [&] { return now += 2; }});
  progress.set_left({20, 2});
  progress.show(5, 1);
  std::rewind(out);
  std::string line(200, '\0');
  line.resize(std::fread(line.data(), 1, line.size(), out));
  std::fclose(out);
  EXPECT_THAT(line, HasSubstr("sweep 35/50 (70 %)"));
  EXPECT_THAT(line, HasSubstr("3 of 5 runs, 1 running"));
}

}  // namespace
}  // namespace muonp::launch
