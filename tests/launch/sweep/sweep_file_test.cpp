// What sweep files say, and what is said of bad ones.
#include "launch/sweep/sweep_file.h"

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/launch/sweep/sweep_fixture.h"

namespace muonp::launch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SweepFiles : public SweepTest {
 protected:
  std::string refusal(const std::string& yaml) const {
    return error_of([&] { sweep(yaml); });
  }
};

TEST_F(SweepFiles, HaveDefaults) {
  const SweepFile sweep = parse_sweep("base: a.yaml\n", "configs/some-sweep.yaml");
  EXPECT_EQ(sweep.folder, "runs/some-sweep");
  EXPECT_THAT(sweep.seeds, ElementsAre(1));
  EXPECT_EQ(sweep.metric, "val_loss");
  EXPECT_TRUE(sweep.lower_is_better);
  EXPECT_EQ(sweep.arms.size(), 1u);
  EXPECT_EQ(sweep.reduction, Reduction::last);
  EXPECT_EQ(sweep.threads, 1);
}

TEST_F(SweepFiles, SectionsAndDotsAreTheSamePath) {
  const SweepFile sweep =
      file("set:\n  optimizer: {matrices: {p: 1/2}}\n  data.mix: [{file: \"a, b\", weight: 2}]\n  data.text: '{x}'\n");
  ASSERT_EQ(sweep.set.size(), 3u);
  EXPECT_EQ(sweep.set[0].assignment(), "optimizer.matrices.p=1/2");
  EXPECT_EQ(sweep.set[1].assignment(), "data.mix=[{file: \"a, b\", weight: 2}]");
  EXPECT_EQ(sweep.set[2].assignment(), "data.text=\"{x}\"");
  EXPECT_EQ(sweep.set[0].where, "sweep.yaml:4");
}

TEST_F(SweepFiles, TheCommandLineStandsAboveSet) {
  const std::vector<std::string> overrides = {"run.steps=5", "log.every=2", "run.steps=6"};
  const SweepFile sweep = parse_sweep("base: a\nset: {run.steps: 100, data.batch: 8}\n", "s.yaml", overrides);
  std::vector<std::string> all;
  for (const Setting& setting : sweep.set) all.push_back(setting.assignment());
  EXPECT_THAT(all, ElementsAre("data.batch=8", "log.every=2", "run.steps=6"));
}

TEST_F(SweepFiles, UnknownPathsAreNamed) {
  EXPECT_THAT(refusal("grid: {optimizer.matrices.moment: [0.9]}\n"),
              AllOf(HasSubstr("sweep.yaml: "), HasSubstr("optimizer.matrices.moment"), HasSubstr("momentum")));
  EXPECT_THAT(refusal("arms: [{name: one, set: {optimizer.matrices.p: 7}}]\n"),
              AllOf(HasSubstr("sweep.yaml: arm 'one': "), HasSubstr("p: 7 is not a valid exponent")));
  EXPECT_THAT(refusal("seed: [1]\n"),
              AllOf(HasSubstr("sweep.yaml:3: seed: unknown key"), HasSubstr("did you mean 'seeds'")));
  EXPECT_THAT(refusal("arms: [{name: a, grids: {}}]\n"),
              HasSubstr("sweep.yaml:3: arms.0.grids: unknown key; did you mean 'grid'"));
}

TEST_F(SweepFiles, GridsHaveValues) {
  EXPECT_THAT(refusal("grid: {}\n"), HasSubstr("sweep.yaml:3: grid: it is empty"));
  EXPECT_THAT(refusal("grid: {optimizer.matrices.lr: []}\n"),
              HasSubstr("sweep.yaml:3: optimizer.matrices.lr: the list of values to try is empty"));
  EXPECT_THAT(refusal("grid: {optimizer.matrices.lr: 0.1}\n"), HasSubstr("expected a list of the values to try"));
  EXPECT_THAT(refusal("grid: {optimizer.matrices.lr: [0.1, 0.2, 0.1]}\n"), HasSubstr("0.1 is there twice"));
  EXPECT_THAT(refusal("list: []\n"), HasSubstr("list: it is empty"));
  EXPECT_THAT(refusal("list: [1]\n"), HasSubstr("list: expected settings"));
  EXPECT_THAT(refusal("arms: []\n"), HasSubstr("arms: the list is empty"));
}

TEST_F(SweepFiles, SeedsAreNumbers) {
  EXPECT_THAT(refusal("seeds: [1, two]\n"), AllOf(HasSubstr("sweep.yaml:3: seeds: "), HasSubstr("'two'")));
  EXPECT_THAT(refusal("seeds: [-1]\n"), HasSubstr("seeds: -1 is out of range"));
  EXPECT_THAT(refusal("seeds: [1, 1]\n"), HasSubstr("seeds: 1 is there twice"));
  EXPECT_THAT(refusal("seeds: []\n"), HasSubstr("seeds: the list is empty"));
  EXPECT_THAT(refusal("seeds: 3\n"), HasSubstr("seeds: expected a list, as in [a, b], found '3'"));
  EXPECT_THAT(refusal("seeds: [[1]]\n"), HasSubstr("seeds: found a list"));
  EXPECT_THAT(refusal("best: {set: {log.every: 2}}\n"), HasSubstr("best: it needs seeds"));
}

TEST_F(SweepFiles, TheBaseIsThere) {
  EXPECT_THAT(error_of([] { parse_sweep("seeds: [1]\n", "s.yaml"); }), HasSubstr("s.yaml: base: missing"));
  EXPECT_THAT(error_of([] { Expansion(parse_sweep("base: nowhere.yaml\n", "s.yaml")); }),
              HasSubstr("s.yaml: base: nowhere.yaml: no such file"));
  EXPECT_THAT(error_of([] { parse_sweep("", "s.yaml"); }), HasSubstr("s.yaml: the file is empty"));
  EXPECT_THAT(error_of([] { parse_sweep("base: [a\n", "s.yaml"); }), HasSubstr("s.yaml:"));
  EXPECT_THAT(error_of([] { read_sweep_file("/nowhere/s.yaml"); }), HasSubstr("/nowhere/s.yaml"));
}

TEST_F(SweepFiles, APathIsGivenInOnePlace) {
  EXPECT_THAT(refusal("grid: {optimizer.matrices.lr: [1, 2]}\narms: [{name: a, set: {optimizer.matrices.lr: 3}}]\n"),
              AllOf(HasSubstr("sweep.yaml:4: optimizer.matrices.lr is given at sweep.yaml:3 too")));
  EXPECT_THAT(refusal("set: {optimizer.matrices.lr: 3}\ngrid: {optimizer.matrices.lr: [1, 2]}\n"), HasSubstr("too"));
  EXPECT_THAT(refusal("arms: [{name: a, set: {model.width: 8}, grid: {model.width: [8, 16]}}]\n"), HasSubstr("too"));
  EXPECT_THAT(refusal("grid: {model.width: [8, 16]}\narms: [{name: a, random: {count: 1, log: {model.width: [8, 16]}}}]\n"),
              HasSubstr("too"));
  EXPECT_THAT(refusal("set: {optimizer.groups: [], optimizer.groups.0.lr: 1}\n"), HasSubstr("too"));
  EXPECT_THAT(refusal("grid: {model.width: [8]}\nbest: {seeds: [1], set: {model.width: 16}}\n"), HasSubstr("too"));
}

TEST_F(SweepFiles, WhatTheSweepGivesItselfIsRefused) {
  for (const std::string path : {"run.name: x", "run.dir: x", "run.seed: 1", "parallel.threads: 2"})
    EXPECT_THAT(refusal("set: {" + path + "}\n"), HasSubstr("the sweep gives")) << path;
  EXPECT_THAT(refusal("grid: {run.seed: [1, 2]}\n"), HasSubstr("'seeds' says which"));
}

TEST_F(SweepFiles, RandomRangesAreRanges) {
  EXPECT_THAT(refusal("random: {count: 3}\n"), HasSubstr("random: nothing is drawn"));
  EXPECT_THAT(refusal("random: {log: {model.width: [1, 2]}}\n"), HasSubstr("random.count: missing"));
  EXPECT_THAT(refusal("random: {count: 0, log: {model.width: [1, 2]}}\n"), HasSubstr("random.count: 0 is out of range"));
  EXPECT_THAT(refusal("random: {count: 3, log: {model.width: [2, 1]}}\n"), HasSubstr("expected [lowest, highest]"));
  EXPECT_THAT(refusal("random: {count: 3, log: {model.width: [a, b]}}\n"), HasSubstr("expected [lowest, highest]"));
  EXPECT_THAT(refusal("random: {count: 3, log: {optimizer.matrices.lr: [0, 1]}}\n"), HasSubstr("lies above 0"));
}

TEST_F(SweepFiles, TheMetricCanBeThere) {
  EXPECT_THAT(refusal("set: {data.validation_fraction: 0}\n"), HasSubstr("no val_loss without data.validation"));
  EXPECT_THAT(refusal("metric: eval.task.loss\n"), HasSubstr("eval.task.loss is of no entry of eval"));
  EXPECT_THAT(refusal("value: median\n"), AllOf(HasSubstr("value: 'median' is not a valid value;"),
                                                HasSubstr("valid values are 'last', 'best' and 'tail'")));
  EXPECT_THAT(refusal("set: {run.steps: 0}\n"), HasSubstr("run.steps is 0"));
}

TEST(SweepSettings, NumbersAndRationals) {
  EXPECT_EQ(number_in("1e-3"), 1e-3);
  EXPECT_EQ(number_in("-1/4"), -0.25);
  for (const char* none : {"adamw", "1/0", "", "1/", "0.85@1 0.95@300", "[1]"}) EXPECT_FALSE(number_in(none)) << none;
  EXPECT_TRUE(paths_collide("a.b", "a.b.c") && paths_collide("a.b.c", "a.b") && paths_collide("a", "a"));
  EXPECT_FALSE(paths_collide("a.b", "a.bc"));
}

}  // namespace
}  // namespace muonp::launch
