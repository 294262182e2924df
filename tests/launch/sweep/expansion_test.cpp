#include "launch/sweep/expansion.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "core/base/error.h"
#include "tests/launch/sweep/sweep_fixture.h"

namespace muonp::launch {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class Expansions : public SweepTest {
 protected:
  static std::vector<std::string> names(const std::vector<SweepRun>& runs) {
    std::vector<std::string> all;
    for (const SweepRun& run : runs) all.push_back(run.name);
    return all;
  }
  static std::string value(const SweepRun& run, const std::string& key) {
    const auto found = std::ranges::find(run.values, key, &core::NamedValue::name);
    return found == run.values.end() ? "none" : found->value;
  }
};

TEST_F(Expansions, AGridIsEveryCombination) {
  const Expansion all =
      sweep("grid: {optimizer.matrices.lr: [0.1, 0.2], optimizer.matrices.momentum: [0.9, 0.95]}\nseeds: [3, 4]\n");
  EXPECT_THAT(names(all.runs()),
              ElementsAre("lr-0.1-momentum-0.9-seed-3", "lr-0.1-momentum-0.9-seed-4", "lr-0.1-momentum-0.95-seed-3",
                          "lr-0.1-momentum-0.95-seed-4", "lr-0.2-momentum-0.9-seed-3", "lr-0.2-momentum-0.9-seed-4",
                          "lr-0.2-momentum-0.95-seed-3", "lr-0.2-momentum-0.95-seed-4"));
  EXPECT_EQ(value(all.runs()[2], "optimizer.matrices.momentum"), "0.95");
  EXPECT_EQ(value(all.runs()[2], "run.seed"), "3");
  EXPECT_EQ(value(all.runs()[2], "run.name"), "none");
  EXPECT_EQ(all.runs()[2].folder, path("runs") + "/lr-0.1-momentum-0.95-seed-3");
  EXPECT_EQ(all.runs()[2].steps, 10);
  EXPECT_EQ(all.describe(all.points()[1]), "lr 0.1, momentum 0.95");
}

TEST_F(Expansions, AListIsItsEntries) {
  const Expansion all = sweep("list:\n  - {model.width: 8, data.batch: 2}\n  - {model.width: 16}\n");
  EXPECT_THAT(names(all.runs()), ElementsAre("width-8-batch-2-seed-1", "width-16-seed-1"));
  EXPECT_EQ(value(all.runs()[0], "data.batch"), "2");
  EXPECT_EQ(value(all.runs()[1], "data.batch"), "4");
}

TEST_F(Expansions, ArmsHaveGridsOfTheirOwnBesideTheCommonOne) {
  const Expansion all = sweep(R"(grid: {model.layers: [1, 2]}
set: {log.every: 7}
arms:
  - {name: p = 0, set: {optimizer.matrices.p: 0}, grid: {optimizer.matrices.lr: [0.01, 0.02]}}
  - {name: adamw, set: {optimizer.matrices.rule: adamw}, grid: {optimizer.matrices.lr: [0.001]}}
)");
  EXPECT_THAT(names(all.runs()), ElementsAre("p-0-layers-1-lr-0.01-seed-1", "p-0-layers-1-lr-0.02-seed-1",
                                             "p-0-layers-2-lr-0.01-seed-1", "p-0-layers-2-lr-0.02-seed-1",
                                             "adamw-layers-1-lr-0.001-seed-1", "adamw-layers-2-lr-0.001-seed-1"));
  EXPECT_EQ(value(all.runs()[0], "optimizer.matrices.rule"), "muonp");
  EXPECT_EQ(value(all.runs()[4], "optimizer.matrices.rule"), "adamw");
  EXPECT_EQ(value(all.runs()[5], "log.every"), "7");
  EXPECT_EQ(all.runs()[4].point, 4u);
  EXPECT_EQ(all.points()[4].arm, 1u);
}

TEST_F(Expansions, PathsThatEndAlikeAreToldApart) {
  const Expansion all = sweep("grid: {optimizer.matrices.lr: [0.1], optimizer.others.lr: [0.2]}\n");
  EXPECT_THAT(names(all.runs()), ElementsAre("matrices.lr-0.1-others.lr-0.2-seed-1"));
  EXPECT_EQ(all.label("optimizer.others.lr"), "others.lr");
}

TEST_F(Expansions, DrawsDependOnTheSeedAndGrowAtTheEnd) {
  const auto draws = [&](int count, int seed) {
    std::vector<std::string> values;
    for (const Settings& draw :
         random_draws(file(fmt::format("random: {{count: {}, seed: {}, log: {{optimizer.matrices.lr: [1e-4, 1]}}, uniform: "
                                       "{{optimizer.matrices.momentum: [0.8, 0.9]}}}}\n",
                                       count, seed))
                          .space))
      values.push_back(draw[0].value + " " + draw[1].value);
    return values;
  };
  const auto five = draws(5, 1), fifty = draws(50, 1);
  EXPECT_EQ(five, draws(5, 1));
  EXPECT_NE(five, draws(5, 2));
  EXPECT_TRUE(std::equal(five.begin(), five.end(), fifty.begin()));
  EXPECT_THAT(std::set<std::string>(fifty.begin(), fifty.end()), SizeIs(50));
}

TEST_F(Expansions, LogDrawsAreEvenInTheLogarithm) {
  constexpr int kDraws = 4000;
  int below = 0;
  for (const Settings& draw :
       random_draws(file(fmt::format("random: {{count: {}, log: {{a: [1e-4, 1]}}}}\n", kDraws)).space)) {
    const double value = number_in(draw[0].value).value();
    EXPECT_TRUE(value >= 1e-4 && value <= 1) << value;
    below += value < 1e-2;
  }
  // Half of them; the bound is five standard deviations of a binomial count.
  EXPECT_LT(std::fabs(below - kDraws / 2.0), 5 * std::sqrt(kDraws / 4.0));
}

TEST_F(Expansions, RoundingDoesNotLeadOutOfTheRange) {  // of four digits there are 0.9999 and 1, and neither is in it
  for (const Settings& draw : random_draws(file("random: {count: 2, uniform: {a: [0.99991, 0.99999]}}\n").space))
    EXPECT_TRUE(draw[0].value == "0.99991" || draw[0].value == "0.99999") << draw[0].value;
}

TEST_F(Expansions, ARangeWithTooFewDrawsIsAnError) {
  EXPECT_THAT(error_of([&] { sweep("random: {count: 20, uniform: {optimizer.matrices.lr: [0.1001, 0.1005]}}\n"); }),
              HasSubstr("there are no 20 different draws"));
}

TEST_F(Expansions, TwoRunsOfAnArmThatAreTheSameAreAnError) {
  EXPECT_THAT(error_of([&] { sweep("grid: {optimizer.matrices.lr: [0.001, 1e-3]}\n"); }),
              HasSubstr("lr-0.001-seed-1 and lr-1e-3-seed-1 are the same run"));
}

TEST_F(Expansions, NamesThatWouldBeTheSameEndInAHash) {
  const Expansion all = sweep("arms:\n  - {name: a b, set: {data.batch: 2}}\n  - {name: a-b, set: {data.batch: 8}}\n");
  const auto found = names(all.runs());
  EXPECT_NE(found[0], found[1]);
  EXPECT_THAT(found[0], testing::MatchesRegex("a-b-[0-9a-f]+-seed-1"));
  EXPECT_EQ(found,
            names(sweep("arms:\n  - {name: a b, set: {data.batch: 2}}\n  - {name: a-b, set: {data.batch: 8}}\n").runs()));
}

TEST_F(Expansions, SeedsAtTheBestAreTheSweepsRunsWhereNothingIsDifferent) {
  const Expansion plain = sweep("grid: {data.batch: [2, 4]}\nbest: {seeds: [1, 2]}\n");
  EXPECT_THAT(names(plain.runs_at_best(1)), ElementsAre("batch-4-seed-1", "batch-4-seed-2"));
  const Expansion longer =
      sweep("set: {run.steps: 5}\ngrid: {data.batch: [2, 4]}\nbest: {seeds: [1], set: {run.steps: 20}}\n");
  EXPECT_THAT(names(longer.runs_at_best(0)), ElementsAre("batch-2-best-seed-1"));
  EXPECT_EQ(longer.runs_at_best(0)[0].steps, 20);
  EXPECT_EQ(longer.runs()[0].steps, 5);
}

TEST_F(Expansions, TextsAreEncodedOnceForAllRuns) {
  EXPECT_THAT(sweep("").runs()[0].overrides, Contains("data.cache=" + path("runs") + "/.cache"));
  EXPECT_THAT(sweep("set: {data.cache: elsewhere}\n").runs()[0].overrides, testing::Not(Contains(HasSubstr("/.cache"))));
}

TEST_F(Expansions, TooManySettingsAreAnError) {
  std::string values;
  for (int i = 1; i <= 400; ++i) values += fmt::format("{}{}", i == 1 ? "" : ", ", i);
  EXPECT_THAT(error_of([&] { sweep(fmt::format("grid: {{model.width: [{0}], data.batch: [{0}]}}\n", values)); }),
              HasSubstr("more than 100000 settings"));
}

}  // namespace
}  // namespace muonp::launch
