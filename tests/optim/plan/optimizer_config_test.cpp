#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/files/files.h"
#include "optim/plan/config.h"
#include "optim/plan/schedule.h"
#include "optim/rules/adamw.h"
#include "optim/rules/muonp.h"
#include "optim/rules/sgd.h"
#include "tests/support/temporary_folder.h"

using namespace muonp;
using namespace muonp::optim;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

struct File {
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  void describe(core::Fields& f) {
    f.section(
        "optimizer", [this](core::Fields& inner) { optimizer.describe(inner); }, "");
    f.section(
        "schedule", [this](core::Fields& inner) { schedule.describe(inner); }, "");
  }
};

File read(const std::string& yaml) {
  File file;
  core::read_config_text(yaml, "test.yaml", {}, [&](core::Fields& f) { file.describe(f); });
  file.optimizer.validate();
  return file;
}

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const core::Error& e) {
    return e.what();
  }
  return "no error";
}

std::string message(const std::string& yaml) {
  return error_of([&] { read(yaml); });
}

}  // namespace

TEST(OptimizerConfig, DefaultsAreValidAndAsDocumented) {
  const File file = read("{}");
  EXPECT_EQ(file.optimizer.clip, 1.0);
  EXPECT_EQ(file.optimizer.matrices.rule->name(), "muonp");
  EXPECT_EQ(file.optimizer.matrices.rule->text(), "muonp p=1/2");
  EXPECT_EQ(file.optimizer.matrices.rule.as<Muonp>().scale, "match_rms");
  EXPECT_EQ(file.optimizer.others.rule->name(), "adamw");
  EXPECT_EQ(file.optimizer.others.weight_decay, 0);
  EXPECT_EQ(file.optimizer.others.rule.as<AdamW>().beta2, 0.95);
}

TEST(OptimizerConfig, ReadsEveryPart) {
  const File file = read(R"(
optimizer:
  clip: 0
  matrices:
    p: 1/3
    momentum_form: heavy_ball
    nesterov: false
    scale: spectral
    splits:
      - {name: qkv, pattern: "*.qkv.weight", axis: columns, parts: [q, k, v]}
  others: {rule: sgd, lr: 0.5, momentum: 0}
  groups:
    - {name: heads, select: ["kind:head", "*.gate"], rule: adamw, beta2: 0.99}
schedule: {kind: wsd, warmup: 7}
)");
  const OptimizerConfig& o = file.optimizer;
  const Muonp& muonp = o.matrices.rule.as<Muonp>();
  EXPECT_EQ(muonp.p, "1/3");
  EXPECT_EQ(muonp.spectral_options(muonp.p.text(), core::DeviceKind::cpu).p, (spectral::Exponent{1, 3}));
  EXPECT_FALSE(is_ema(muonp.momentum_form));
  EXPECT_FALSE(muonp.nesterov);
  ASSERT_EQ(o.matrices.splits.size(), 1u);
  EXPECT_THAT(o.matrices.splits[0].parts, ElementsAre("q", "k", "v"));
  EXPECT_EQ(o.others.rule.as<Sgd>().momentum, 0);
  ASSERT_EQ(o.groups.size(), 1u);
  EXPECT_THAT(o.groups[0].select, ElementsAre("kind:head", "*.gate"));
  EXPECT_EQ(o.groups[0].rule.as<AdamW>().beta2, 0.99);
  EXPECT_EQ(file.schedule.warmup, 7);
}

TEST(OptimizerConfig, WhatIsWrittenReadsBack) {
  File file = read(R"(
optimizer:
  matrices: {p: -1/4, splits: [{name: a, pattern: "*.up", parts: [gate, up]}]}
  groups: [{name: heads, select: ["kind:head"]}]
)");
  const std::string text = core::write_config([&](core::Fields& f) { file.describe(f); });
  File again = read(text);
  EXPECT_EQ(core::write_config([&](core::Fields& f) { again.describe(f); }), text);
  EXPECT_EQ(again.optimizer.matrices.rule.as<Muonp>().p, "-1/4");
  EXPECT_EQ(again.optimizer.matrices.splits[0].parts.size(), 2u);
}

TEST(OptimizerConfig, MistakesAreNamedByTheirPath) {
  EXPECT_THAT(message("optimizer: {matrices: {p: 2}}"), HasSubstr("optimizer.matrices: "));
  EXPECT_THAT(message("optimizer: {matrices: {method: newton_schulz5, p: 1/2}}"), HasSubstr("newton_schulz5"));
  EXPECT_THAT(message("optimizer: {matrices: {momentum: 1}}"), HasSubstr("optimizer.matrices.momentum is 1"));
  EXPECT_THAT(message("optimizer: {others: {beta2: 1.0}}"), HasSubstr("optimizer.others.beta2 is 1"));
  EXPECT_THAT(message("optimizer: {matrices: {p: -1/4, scale: schatten}}"), HasSubstr("schatten needs p >= 0"));
  EXPECT_THAT(message("optimizer: {groups: [{name: others, select: [a]}]}"),
              HasSubstr("optimizer.groups[0].name others is used twice"));
  EXPECT_THAT(message("optimizer: {groups: [{name: x}]}"), HasSubstr("optimizer.groups[0].select is empty"));
  EXPECT_THAT(message("optimizer: {matrices: {splits: [{name: a, pattern: b, parts: [q]}]}}"),
              HasSubstr("at least two parts"));
  EXPECT_THAT(message("optimizer: {matrices: {splits: [{name: a, pattern: b, parts: [q, q]}]}}"),
              HasSubstr("names a part twice"));
  EXPECT_NE(message("optimizer: {others: {rule: muonp}}"), "no error");
  EXPECT_NE(message("optimizer: {others: {p: 1/2}}"), "no error");
  EXPECT_NE(message("optimizer: {matrices: {lr: -1}}"), "no error");
}

TEST(OptimizerConfig, StatesAreKeptAsTheirRuleCanDoWith) {
  EXPECT_EQ(message("optimizer: {matrices: {state_dtype: int8, state_rounding: nearest}, others: {state_dtype: bfloat16}}"),
            "no error");
  EXPECT_EQ(message("optimizer: {others: {rule: schedule_free, state_dtype: int8}}"), "no error");  // of v alone
  EXPECT_THAT(message("optimizer: {matrices: {state_dtype: int4}}"),
              HasSubstr("valid values are 'float32', 'bfloat16' and 'int8'"));
  EXPECT_THAT(message("optimizer: {matrices: {state_dtype: int8, state_rounding: up}}"),
              HasSubstr("valid values are 'stochastic' and 'nearest'"));
  EXPECT_THAT(message("optimizer: {matrices: {state_rounding: nearest}}"),
              HasSubstr("optimizer.matrices.state_rounding: a key that is there with state_dtype: bfloat16 or int8 only"));
  EXPECT_THAT(message("optimizer: {matrices: {rule: soap, state_dtype: int8}}"),
              HasSubstr("optimizer.matrices.state_dtype is int8, and soap keeps no momentum or second moment on the ranks' "
                        "pieces of a parameter: what lives with owners, and weights, are float32; valid is float32"));
  EXPECT_THAT(message("optimizer: {others: {rule: sgd, momentum: 0, state_dtype: bfloat16}}"),
              HasSubstr("optimizer.others.state_dtype is bfloat16, and sgd keeps no"));
  EXPECT_THAT(message("optimizer: {matrices: {rule: muon_mvr, variant: exact, state_dtype: bfloat16}}"),
              HasSubstr("muon_mvr keeps no"));
}

// A configuration that no file was read for, as another trainer may make it.
TEST(OptimizerConfig, AWordThatIsNoChoiceIsAnErrorWhereverItDecides) {
  GroupConfig g;
  EXPECT_THAT(error_of([&] { g.rule = "lyon"; }), HasSubstr("the rule 'lyon' is not known; valid are muonp, "));
  EXPECT_EQ(g.rule->name(), "adamw");
  EXPECT_THAT(error_of([] { is_ema("EMA"); }), HasSubstr("momentum_form 'EMA' is not known; valid are ema, heavy_ball"));
  const SplitConfig split{.name = "qkv", .pattern = "*", .axis = "column", .parts = {"q", "k"}};
  EXPECT_THAT(error_of([&] { split.split(); }),
              HasSubstr("split qkv, axis: 'column' is not known; valid are rows, columns"));
}

TEST(OptimizerConfig, SplitsThatCannotBeAreNamedByTheirPath) {
  const auto of = [](const std::string& keys) {
    return message("optimizer: {matrices: {splits: [{name: s, pattern: w, " + keys + "}]}}");
  };
  EXPECT_EQ(of("heads: 9"), "no error");
  EXPECT_EQ(of("parts: [a, b], sizes: [576, 192]"), "no error");
  EXPECT_THAT(of("heads: 2, parts: [a, b]"), HasSubstr("optimizer.matrices.splits[0]: heads is 2, and parts has names"));
  EXPECT_THAT(of("heads: 1"), HasSubstr("optimizer.matrices.splits[0].heads is 1"));
  EXPECT_THAT(of("parts: [a, b], sizes: [1]"), HasSubstr("optimizer.matrices.splits[0].sizes has 1 numbers for 2 parts"));
  EXPECT_THAT(of("parts: [a, b], sizes: [1, x]"),
              HasSubstr("optimizer.matrices.splits[0]: split s, sizes: 'x' is no number"));
}

TEST(OptimizerConfig, AKeyOfAnotherRuleIsNamedWithTheRule) {
  EXPECT_THAT(message("optimizer: {others: {momentum: 0.9}}"),
              HasSubstr("optimizer.others.momentum: a key that is there with rule: sgd only"));
  EXPECT_THAT(message("optimizer: {matrices: {rule: sgd, p: 1/2}}"),
              HasSubstr("optimizer.matrices.p: a key that is there with rule: muonp, beyond_muon, beyond_muon_rms, htmuon "
                        "or dynmuon only"));
  EXPECT_THAT(message("optimizer: {matrices: {rule: adamw, splits: []}}"), HasSubstr("with rule: muonp, "));
  EXPECT_THAT(message("optimizer: {matrices: {beta3: 1}}"), HasSubstr("unknown key"));
}

// An override that chooses another rule takes the file's keys of the old one away; its own keys may come in any order.
TEST(OptimizerConfig, AnOverrideChangesTheRule) {
  const std::string yaml = "optimizer: {matrices: {p: 1/3, momentum: 0.5, lr: 0.25}}";
  const auto with = [&](const std::vector<std::string>& overrides) {
    File file;
    core::read_config_text(yaml, "test.yaml", overrides, [&](core::Fields& f) { file.describe(f); });
    return file.optimizer.matrices;
  };
  const GroupConfig adamw = with({"optimizer.matrices.beta1=0.75", "optimizer.matrices.rule=adamw"});
  EXPECT_EQ(adamw.rule.as<AdamW>().beta1, 0.75);
  EXPECT_EQ(adamw.lr, 0.25);
  EXPECT_EQ(with({"optimizer.matrices.rule=sgd"}).rule.as<Sgd>().momentum, Sgd().momentum);
  EXPECT_THAT(error_of([&] {
                with({"optimizer.matrices.p=0", "optimizer.matrices.rule=adamw"});
              }),
              HasSubstr("with rule: muonp, "));
}

TEST(OptimizerConfig, WhatOlderVersionsWroteIsRead) {
  OptimizerConfig o;
  const test::TemporaryFolder folder;
  const std::string file = folder / "resolved.yaml";
  core::write_file(file, "others: {rule: adamw, momentum: 0.5, momentum_form: ema, beta1: 0.25}\n");
  core::read_config(
      file, {}, [&](core::Fields& f) { o.describe(f); }, core::Origin::by_the_program);
  EXPECT_EQ(o.others.rule.as<AdamW>().beta1, 0.25);
  EXPECT_THAT(error_of([&] { core::read_config(file, {}, [&](core::Fields& f) { o.describe(f); }); }),
              HasSubstr("rule: sgd"));
}

TEST(OptimizerConfig, HyperParametersAreFunctionsOfTheStep) {
  const File file = read("optimizer: {matrices: {momentum: 0.5@1 1e-1@5, lr: 1@1 3@3, p: 1/2@1 0@10}}");
  const GroupConfig& g = file.optimizer.matrices;
  EXPECT_EQ(g.rule.as<Muonp>().momentum.at(1), 0.5);
  EXPECT_DOUBLE_EQ(g.rule.as<Muonp>().momentum.at(3), 0.3);
  EXPECT_EQ(g.rule.as<Muonp>().momentum.at(99), 0.1);
  EXPECT_EQ(g.facts(2, 0.5, 1, 0, 0).lr, 1);
  EXPECT_EQ(core::StepValue::parse(g.lr.text()), g.lr);
  EXPECT_THAT(message("optimizer: {matrices: {momentum: 0.5@2 0.6@3}}"), HasSubstr("steps that rise from 1"));
  EXPECT_THAT(message("optimizer: {matrices: {momentum: 0.5@1 2@3}}"), HasSubstr("a number in [0, 1]"));
  EXPECT_THAT(message("optimizer: {matrices: {momentum: 0.5@1 1@3}}"), HasSubstr("must be at least 0 and below 1"));
  EXPECT_THAT(message("optimizer: {matrices: {p: 1/2@1 2@10}}"), HasSubstr("optimizer.matrices: "));
}

TEST(OptimizerConfig, SchedulesAreCheckedAgainstTheRun) {
  const OptimizerConfig o =
      read("optimizer: {matrices: {momentum: cosine 0.5@1 0.9@300, p: 'logistic 1/2 -1/4 tau 0.03 width 0.02'}}").optimizer;
  EXPECT_THAT(
      error_of([&] { o.for_run(200); }),
      HasSubstr("optimizer.matrices.momentum: a schedule longer than the run: it has a value at step 300, and the run "
                "has 200 steps; valid are steps from 1 to 200"));
  EXPECT_THAT(error_of([&] { o.require_run(); }), HasSubstr("optimizer.matrices.p: it is relative to the run"));
  const OptimizerConfig of_run = o.for_run(1000);
  of_run.require_run();
  of_run.validate();
  const Muonp& muonp = of_run.matrices.rule.as<Muonp>();
  EXPECT_NEAR(muonp.step_exponent(30)->exact, 0.125, 1e-12);
  EXPECT_EQ(muonp.step_exponent(1000)->p, (spectral::Exponent{-1, 4}));
  EXPECT_THAT(of_run.matrices.rule->text(), HasSubstr("tau 0.03 width 0.02, "));
  EXPECT_THAT(message("optimizer: {matrices: {p: linear 1/2@1 0.31@10}}"), HasSubstr("optimizer.matrices: p: 0.31"));
  EXPECT_THAT(message("optimizer: {matrices: {p: linear 1/2@1 -1/4@10, scale: schatten}}"),
              HasSubstr("schatten needs p >= 0"));
  // Every exponent between is one that the method has to have.
  const OptimizerConfig bivariate = read("optimizer: {matrices: {p: 'switch 1/3@1 1/5@10', method: bivariate}}").optimizer;
  bivariate.for_run(10).validate();
  EXPECT_THAT(message("optimizer: {matrices: {p: linear 1/3@1 1/5@10, method: bivariate}}"), HasSubstr("bivariate"));
}

TEST(OptimizerConfig, AnAdaptiveExponentHasKeysOfItsOwn) {
  const GroupConfig g = read("optimizer: {matrices: {p: adaptive, p_candidates: [0, 1/3], p_every: 7}}").optimizer.matrices;
  const Muonp& muonp = g.rule.as<Muonp>();
  EXPECT_EQ(muonp.adaptive_settings().every, 7);
  EXPECT_THAT(muonp.adaptive_settings().candidates, ElementsAre(spectral::Exponent{0, 1}, spectral::Exponent{1, 3}));
  EXPECT_EQ(g.rule->text(), "muonp p=adaptive of 0, 1/3");
  EXPECT_FALSE(g.rule->step_exponent(1).has_value());
  EXPECT_EQ(g.rule->shown_state(8), "p");
  EXPECT_EQ(g.rule->shown_state(9), "");
  EXPECT_THAT(message("optimizer: {matrices: {p_every: 7}}"),
              HasSubstr("optimizer.matrices.p_every: a key that is there with p: adaptive only"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive, p_every: 0}}"),
              HasSubstr("optimizer.matrices.p_every: 0 is out"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive, p_smoothing: 1}}"), HasSubstr("p_smoothing: 1 is out of range"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive, p_candidates: []}}"),
              HasSubstr("optimizer.matrices: p_candidates is empty"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive, p_candidates: [0, 0.31]}}"),
              HasSubstr("optimizer.matrices: p: 0.31"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive, method: bivariate}}"), HasSubstr("bivariate"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive, lora: whitened}}"),
              HasSubstr("optimizer.matrices.lora: whitened with p: adaptive"));
  EXPECT_THAT(message("optimizer: {matrices: {p: adaptive@1 0@5}}"), HasSubstr("optimizer.matrices: p: \"adaptive\""));
}

TEST(Rule, OnlyDoesWhatItsKindDoes) {
  const auto device = core::make_cpu_device(1);
  const core::Tensor w = core::Tensor::zeros(*device, {3}, core::Dtype::float32, core::Category::other);
  const std::vector<core::Tensor> states = {w};
  EXPECT_THROW(Muonp().move(device->queue(), {}, w, {w}, states), core::InternalError);
  EXPECT_THROW(AdamW().direction(device->queue(), {}, {w}, states), core::InternalError);
  EXPECT_THROW(Sgd().matrix_step(core::DeviceKind::cpu), core::InternalError);
  EXPECT_THROW(AdamW().move(device->queue(), {}, w, {w}, states), core::InternalError);  // one state of two
}

TEST(Rule, NamesItsStates) {
  const auto names = [](const AnyRule& rule) {
    std::vector<std::string> result;
    for (const StateSpec& s : rule->states()) result.push_back(s.name);
    return result;
  };
  EXPECT_THAT(names("adamw"), ElementsAre("m", "v"));
  EXPECT_THAT(names("muonp"), ElementsAre("momentum"));
  AnyRule sgd = "sgd";
  EXPECT_THAT(names(sgd), ElementsAre("momentum"));
  sgd.as<Sgd>().momentum = 0;
  EXPECT_THAT(names(sgd), ElementsAre());
}

TEST(Rule, StatesHaveTheShapeOfTheirForm) {
  const MatrixBatch m[] = {{.count = 2, .rows = 2, .cols = 5}, {.count = 1, .rows = 2, .cols = 5}};
  EXPECT_EQ(state_shape({"s", Form::elements}, m), (core::Shape{3, 2, 5}));
  EXPECT_EQ(state_shape({"s", Form::rows}, m), (core::Shape{3, 2}));
  EXPECT_EQ(state_shape({"s", Form::columns}, m), (core::Shape{3, 5}));
  EXPECT_EQ(state_shape({"s", Form::scalar}, m), (core::Shape{3}));
  EXPECT_EQ(state_shape({"s", Form::square}, m), (core::Shape{3, 2, 2}));
  const MatrixBatch unequal[] = {{.count = 1, .rows = 2, .cols = 5}, {.count = 1, .rows = 4, .cols = 5}};
  EXPECT_EQ(state_shape({"s", Form::elements}, unequal), (core::Shape{30}));
  EXPECT_EQ(state_shape({"s", Form::scalar}, unequal), (core::Shape{2}));
  EXPECT_THROW(state_shape({"s", Form::rows}, unequal), core::Error);
}

TEST(Rule, ACopyIsARuleOfItsOwn) {
  AnyRule first = "muonp", second = first;
  second.as<Muonp>().p = "0";
  EXPECT_EQ(first.as<Muonp>().p, "1/2");
}
