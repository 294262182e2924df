#include "launch/train/run_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "optim/rules/muonp.h"
#include "tests/support/temporary_folder.h"

namespace muonp::launch {
namespace {

using core::NamedValues;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const NamedValues kData = {{"data.tokenizer", "byte"},
                           {"data.train", "100 tokens, hash 1"},
                           {"data.validation", "none"},
                           {"data.validation_fraction", "0.1"}};

RunConfig base() {
  RunConfig config;
  config.run.steps = 10;
  config.data.train = "text";
  return config;
}

NamedValues identity_with(const std::function<void(RunConfig&)>& change = {}, const NamedValues& data = kData) {
  RunConfig config = base();
  if (change) change(config);
  return run_identity(config, data).values;
}

std::string refusal(const NamedValues& mine, const std::vector<std::string>& allowed = {}) {
  return test::message_of<core::Error>([&] { require_same_run("step-00000010", {identity_with(), ""}, mine, allowed); });
}

std::vector<std::string> told(const NamedValues& mine, const std::vector<std::string>& allowed = {}) {
  return require_same_run("step-00000010", {identity_with(), ""}, mine, allowed);
}

TEST(RunIdentity, TheSameRunGoesOnWithoutAWord) {
  EXPECT_THAT(told(identity_with()), IsEmpty());
  EXPECT_THAT(told(identity_with([](RunConfig& c) {
                c.parallel = {.zero = 3, .threads = 7};
                c.data.micro_batch = 1;
                c.data.train = "another/path/of/the/same/text";
                c.model.gpt.recompute = "blocks";
                c.checkpoint.keep = 9;
                c.log.every = 5;
              })),
              IsEmpty());
}

TEST(RunIdentity, EachDifferenceIsNamedWithBothValues) {
  const std::string message = refusal(identity_with([](RunConfig& c) {
    c.data.shuffle = false;
    c.model.gpt.positions = "rotary";
  }));
  EXPECT_THAT(message, AllOf(HasSubstr("step-00000010"), HasSubstr("\n  data.shuffle: false here, true in the checkpoint"),
                             HasSubstr("\n  model.positions: rotary here, learned in the checkpoint"),
                             HasSubstr("checkpoint.allow: [data.shuffle, model.positions]")));
  NamedValues data = kData;
  data[1].value = "99 tokens, hash 2";
  EXPECT_THAT(refusal(identity_with({}, data)), HasSubstr("data.train: 99 tokens, hash 2 here, 100 tokens, hash 1 in"));
}

TEST(RunIdentity, WhatDecidesTheMeaningOfTheStateIsRefused) {
  const std::pair<const char*, std::function<void(RunConfig&)>> kChanges[] = {
      {"run.seed", [](RunConfig& c) { c.run.seed = 2; }},
      {"data.batch", [](RunConfig& c) { c.data.batch = 64; }},
      {"data.sequence", [](RunConfig& c) { c.data.sequence = 128; }},
      {"model.activation", [](RunConfig& c) { c.model.gpt.activation = "relu2"; }},
      {"model.layers", [](RunConfig& c) { c.model.gpt.layers = 1; }},
      {"optimizer.matrices.p", [](RunConfig& c) { c.optimizer.matrices.rule.as<optim::Muonp>().p = "0"; }},
      {"optimizer.matrices.select", [](RunConfig& c) { c.optimizer.matrices.select = {"*.qkv.weight"}; }},
      {"optimizer.matrices.momentum_form",
       [](RunConfig& c) { c.optimizer.matrices.rule.as<optim::Muonp>().momentum_form = "heavy_ball"; }},
      {"optimizer.matrices.splits",
       [](RunConfig& c) {
         c.optimizer.matrices.splits = {{"qkv", "*", "rows", {"q", "k"}}};
       }},
      {"optimizer.others.rule", [](RunConfig& c) { c.optimizer.others.rule = "sgd"; }},
      {"optimizer.groups", [](RunConfig& c) { c.optimizer.groups.resize(1); }}};
  for (const auto& [key, change] : kChanges) {
    EXPECT_THAT(refusal(identity_with(change)), HasSubstr(std::string("\n  ") + key + ": ")) << key;
    EXPECT_THAT(told(identity_with(change), {key}), testing::Contains(HasSubstr(std::string(key) + " changes from")));
  }
}

TEST(RunIdentity, WhatMayChangeIsTold) {
  EXPECT_THAT(told(identity_with([](RunConfig& c) {
                c.optimizer.matrices.lr = 0.5;
                c.run.steps = 20;
              })),
              testing::UnorderedElementsAre("run.steps changes from 10 to 20",
                                            HasSubstr("optimizer.matrices.lr changes from 0.003 to 0.5")));
}

TEST(RunIdentity, PatternsAllow) {
  const auto change = [](RunConfig& c) { c.data.shuffle = false; };
  EXPECT_EQ(refusal(identity_with(change), {"data.*"}), "");
  EXPECT_NE(refusal(identity_with(change), {"model.*"}), "");
}

TEST(RunIdentity, WhatAnOlderCheckpointDoesNotSayIsNamedOnce) {
  const RunIdentity old{{{"run.seed", "1"}, {"data.batch", "32"}, {"data.sequence", "256"}}, ""};
  const std::vector<std::string> lines = require_same_run("old", old, identity_with(), {});
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], AllOf(HasSubstr("old does not say"), HasSubstr(" more; "), Not(HasSubstr("run.seed"))));
  EXPECT_THAT(test::message_of<core::Error>(
                  [&] { require_same_run("old", old, identity_with([](RunConfig& c) { c.run.seed = 2; }), {}); }),
              HasSubstr("run.seed: 2 here, 1 in"));
}

TEST(RunIdentity, GoesThroughJson) {
  const RunIdentity identity = run_identity(base(), kData);
  const RunIdentity again = identity_from_json(to_json(identity), "manifest.json");
  EXPECT_THAT(again.values, testing::UnorderedElementsAreArray(identity.values));
  EXPECT_EQ(again.folder, identity.folder);
  for (const char* text : {"", "[]", "{}", R"({"values": 1})", R"({"values": {"a": 1}})", R"({"values": {}, "folder": 2})"})
    EXPECT_THAT(test::message_of<core::Error>([&] { identity_from_json(text, "manifest.json"); }),
                HasSubstr("manifest.json"))
        << text;
}

TEST(RunIdentity, RanksCompareAllButThreadsAndPaths) {
  RunConfig config = base();
  const NamedValues values = rank_identity(config);
  config.parallel.threads = 3;
  config.data.train = "elsewhere";
  EXPECT_EQ(rank_identity(config), values);
  for (const auto& change : std::vector<std::function<void(RunConfig&)>>{
           [](RunConfig& c) { c.optimizer.clip = 0.1; }, [](RunConfig& c) { c.schedule.warmup = 2; },
           [](RunConfig& c) { c.data.shuffle = false; }, [](RunConfig& c) { c.guard.factor = 3; }}) {
    RunConfig changed = base();
    change(changed);
    EXPECT_NE(rank_identity(changed), values);
  }
}

}  // namespace
}  // namespace muonp::launch
