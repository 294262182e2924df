#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "optim/plan/config.h"
#include "optim/plan/schedule.h"

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
  EXPECT_EQ(file.optimizer.matrices.rule, "muonp");
  EXPECT_EQ(file.optimizer.matrices.rule_text(), "muonp p=1/2");
  EXPECT_EQ(file.optimizer.matrices.muonp().scale, ShapeScale::match_rms);
  EXPECT_EQ(file.optimizer.others.rule, "adamw");
  EXPECT_EQ(file.optimizer.others.adamw().weight_decay, 0);
  EXPECT_EQ(file.optimizer.others.adamw().beta2, 0.95);
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
  EXPECT_EQ(o.matrices.spectral_options(core::DeviceKind::cpu).p, (spectral::Exponent{1, 3}));
  EXPECT_FALSE(o.matrices.muonp().ema);
  EXPECT_FALSE(o.matrices.muonp().nesterov);
  ASSERT_EQ(o.matrices.splits.size(), 1u);
  EXPECT_THAT(o.matrices.splits[0].parts, ElementsAre("q", "k", "v"));
  EXPECT_EQ(o.others.sgd().momentum, 0);
  ASSERT_EQ(o.groups.size(), 1u);
  EXPECT_THAT(o.groups[0].select, ElementsAre("kind:head", "*.gate"));
  EXPECT_EQ(o.groups[0].adamw().beta2, 0.99);
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
  EXPECT_EQ(again.optimizer.matrices.p, "-1/4");
  EXPECT_EQ(again.optimizer.matrices.splits[0].parts.size(), 2u);
}

TEST(OptimizerConfig, MistakesAreNamedByTheirPath) {
  EXPECT_THAT(message("optimizer: {matrices: {p: 2}}"), HasSubstr("optimizer.matrices: "));
  EXPECT_THAT(message("optimizer: {matrices: {method: newton_schulz5, p: 1/2}}"),
              HasSubstr("newton_schulz5"));
  EXPECT_THAT(message("optimizer: {matrices: {momentum: 1}}"), HasSubstr("optimizer.matrices.momentum is 1"));
  EXPECT_THAT(message("optimizer: {others: {beta2: 1.0}}"), HasSubstr("optimizer.others.beta2 is 1"));
  EXPECT_THAT(message("optimizer: {matrices: {p: -1/4, scale: schatten}}"),
              HasSubstr("schatten needs p >= 0"));
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

// A configuration that no file was read for, as another trainer may make it.
TEST(OptimizerConfig, AWordThatIsNoChoiceIsAnErrorWhereverItDecides) {
  GroupConfig g;
  g.name = "heads";
  g.rule = "lion";
  const auto named = HasSubstr("group heads, rule: 'lion' is not known; valid are muonp, adamw, sgd");
  EXPECT_THAT(error_of([&] { static_cast<void>(g.is_spectral()); }), named);
  EXPECT_THAT(error_of([&] { g.state_names(); }), named);
  EXPECT_THAT(error_of([&] { g.rule_text(); }), named);
  g.rule = "sgd";
  g.momentum_form = "EMA";
  EXPECT_THAT(error_of([&] { g.sgd(); }),
              HasSubstr("group heads, momentum_form: 'EMA' is not known; valid are ema, heavy_ball"));
  EXPECT_THAT(error_of([&] { g.muonp(); }), HasSubstr("momentum_form"));
  const SplitConfig split{.name = "qkv", .pattern = "*", .axis = "column", .parts = {"q", "k"}};
  EXPECT_THAT(error_of([&] { split.columns(); }),
              HasSubstr("split qkv, axis: 'column' is not known; valid are rows, columns"));
}

TEST(OptimizerConfig, OnlyElementwiseRulesMoveElementByElement) {
  const auto device = core::make_cpu_device(1);
  const core::Tensor w = core::Tensor::zeros(*device, {3}, core::Dtype::float32, core::Category::other);
  GroupConfig g;
  g.rule = "muonp";
  EXPECT_THROW(elementwise_update(device->queue(), g, 1, 1, 1, w, w, std::vector{w}), core::InternalError);
  g.rule = "adamw";
  EXPECT_THROW(elementwise_update(device->queue(), g, 1, 1, 1, w, w, std::vector{w}), core::InternalError);
}

TEST(OptimizerConfig, StateIsNamedByTheRule) {
  GroupConfig g;
  EXPECT_THAT(g.state_names(), ElementsAre("m", "v"));
  g.rule = "muonp";
  EXPECT_THAT(g.state_names(), ElementsAre("momentum"));
  g.rule = "sgd";
  EXPECT_THAT(g.state_names(), ElementsAre("momentum"));
  g.momentum = 0;
  EXPECT_THAT(g.state_names(), ElementsAre());
}
