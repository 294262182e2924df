#include "optim/plan/groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "core/base/error.h"

using namespace muonp;
using namespace muonp::optim;
using core::ParameterKind;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

// Two blocks of a GPT in miniature.
class GroupsTest : public testing::Test {
 protected:
  std::deque<core::Parameter> storage;
  core::ParameterList parameters;
  OptimizerConfig config;

  int add(std::string name, core::Shape shape, ParameterKind kind) {
    core::Parameter p;
    p.name = std::move(name);
    p.shape = std::move(shape);
    p.kind = kind;
    storage.push_back(std::move(p));
    parameters.push_back(&storage.back());
    return static_cast<int>(parameters.size()) - 1;
  }

  void SetUp() override {
    add("embedding.weight", {50, 8}, ParameterKind::embedding);
    for (const std::string block : {"blocks.0.", "blocks.1."}) {
      add(block + "norm.weight", {8}, ParameterKind::vector);
      add(block + "attention.qkv.weight", {24, 8}, ParameterKind::matrix);
      add(block + "attention.out.weight", {8, 8}, ParameterKind::matrix);
      add(block + "mlp.up.weight", {24, 8}, ParameterKind::matrix);
    }
    add("head.weight", {50, 8}, ParameterKind::head);
  }

  GroupConfig group(std::string name, std::vector<std::string> select, std::string rule = "adamw") const {
    GroupConfig g;
    g.name = std::move(name);
    g.select = std::move(select);
    g.rule = AnyRule(rule);
    return g;
  }

  std::string message() {
    try {
      const Groups groups(config, parameters);
    } catch (const core::Error& e) {
      return e.what();
    }
    return "no error";
  }
};

}  // namespace

TEST_F(GroupsTest, DefaultsSendMatricesToMuonpAndTheRestToAdamW) {
  const Groups groups(config, parameters);
  ASSERT_EQ(groups.groups().size(), 2u);
  EXPECT_THAT(groups.groups()[0].parameters, ElementsAre(2, 3, 4, 6, 7, 8));
  EXPECT_THAT(groups.groups()[1].parameters, ElementsAre(0, 1, 5, 9));
  const std::vector<GroupRow> rows = groups.rows();
  EXPECT_EQ(rows[0].group, "matrices");
  EXPECT_EQ(rows[0].rule, "muonp p=1/2");
  EXPECT_EQ(rows[0].parameters, 6);
  EXPECT_EQ(rows[0].elements, 2 * (24 * 8 + 8 * 8 + 24 * 8));
  EXPECT_EQ(rows[1].rule, "adamw");
  EXPECT_EQ(rows[1].elements, 2 * 50 * 8 + 16);
}

TEST_F(GroupsTest, Pitfall07_EveryParameterIsInExactlyOneGroup) {
  config.groups = {group("heads", {"kind:head", "embedding.*"}), group("out", {"*.out.weight"}, "sgd"),
                   group("block0", {"blocks.0.*"})};
  const Groups groups(config, parameters);
  std::vector<int> owners(parameters.size(), 0);
  for (std::size_t g = 0; g < groups.groups().size(); ++g)
    for (const int i : groups.groups()[g].parameters) {
      ++owners[i];
      EXPECT_EQ(groups.group_of(i), static_cast<int>(g));
      EXPECT_EQ(&groups.group_for(i), &groups.groups()[g]);
    }
  EXPECT_THAT(owners, testing::Each(1));
  EXPECT_EQ(groups.group_for(3).config.name, "out");  // the first group that selects it, not block0
  EXPECT_EQ(groups.group_for(2).config.name, "block0");
  EXPECT_EQ(groups.group_for(6).config.name, "matrices");
  EXPECT_EQ(groups.group_for(5).config.name, "others");
}

TEST_F(GroupsTest, Pitfall07_ATiedWeightIsListedOnce) {
  parameters.push_back(parameters[0]);
  EXPECT_THAT(message(), HasSubstr("parameter embedding.weight is listed twice"));
  parameters.pop_back();
  add("embedding.weight", {3}, ParameterKind::vector);
  EXPECT_THAT(message(), HasSubstr("parameter embedding.weight is listed twice"));
}

TEST_F(GroupsTest, APatternWithoutAMatchIsNamedWithTheNearestNames) {
  config.groups = {group("attention", {"*.atention.qkv.weight"})};
  EXPECT_THAT(message(), AllOf(HasSubstr("group attention"), HasSubstr("*.atention.qkv.weight matches no parameter"),
                               HasSubstr("blocks.0.attention.qkv.weight")));
  config.groups = {group("x", {"kind:matrices"})};
  EXPECT_THAT(message(), AllOf(HasSubstr("kind:matrices"), HasSubstr("valid: kind:matrix,")));
}

TEST_F(GroupsTest, ASelectionThatAnEarlierGroupHasTakenIsRefused) {
  config.groups = {group("wide", {"*.weight"}), group("narrow", {"blocks.0.norm.*"})};
  EXPECT_THAT(message(), AllOf(HasSubstr("group narrow"), HasSubstr("blocks.0.norm.*"), HasSubstr("to wide")));
  config.groups = {group("a", {"kind:head"}), group("b", {"kind:head"})};
  EXPECT_THAT(message(), HasSubstr("group b has no parameters"));
}

TEST_F(GroupsTest, MatricesMayBeEmptyWhenOtherGroupsHaveThem) {
  config.groups = {group("all", {"kind:matrix"})};
  const Groups groups(config, parameters);
  ASSERT_EQ(groups.groups().size(), 2u);
  EXPECT_EQ(groups.groups()[1].config.name, "others");
}

TEST_F(GroupsTest, MuonpOnAVectorIsRefusedByName) {
  config.matrices.select = {"blocks.*"};
  EXPECT_THAT(message(), AllOf(HasSubstr("blocks.0.norm.weight of shape [8]"), HasSubstr("its rule moves [rows, columns]")));
  config.matrices.rule = "adamw";
  EXPECT_EQ(message(), "no error");
}

TEST_F(GroupsTest, Pitfall06_SplitsFollowNamesNotShapes) {
  config.matrices.splits = {{.name = "qkv", .pattern = "*.attention.qkv.weight", .parts = {"q", "k", "v"}}};
  const Groups groups(config, parameters);
  for (const int qkv : {2, 6}) {
    ASSERT_NE(groups.split_of(qkv), nullptr);
    EXPECT_EQ(groups.split_of(qkv)->parts.size(), 3u);
  }
  for (const int other : {0, 1, 3, 4, 7, 8, 9}) EXPECT_EQ(groups.split_of(other), nullptr) << other;  // 4, 8: 24 × 8 too
}

TEST_F(GroupsTest, SplitsThatCannotBeAreRefused) {
  const SplitConfig qkv{.name = "qkv", .pattern = "*.qkv.weight", .parts = {"q", "k", "v"}};
  config.matrices.splits = {{.name = "qkv", .pattern = "*.qvk.weight", .parts = {"q", "k", "v"}}};
  EXPECT_THAT(message(), AllOf(HasSubstr("group matrices, split qkv"), HasSubstr("nearest"), HasSubstr("qkv.weight")));
  config.matrices.splits = {{.name = "five", .pattern = "*.qkv.weight", .parts = {"a", "b", "c", "d", "e"}}};
  EXPECT_THAT(message(), AllOf(HasSubstr("blocks.0.attention.qkv.weight of shape [24, 8]"), HasSubstr("24 rows")));
  config.matrices.splits = {qkv, {.name = "again", .pattern = "blocks.1.attention.qkv.*", .parts = {"a", "b"}}};
  EXPECT_THAT(message(), HasSubstr("matched by two splits, qkv and again"));
  config.matrices.splits = {{.name = "head", .pattern = "head.*", .parts = {"a", "b"}}};
  EXPECT_THAT(message(), HasSubstr("pattern head.* matches no parameter of the group"));
}

TEST_F(GroupsTest, Pitfall08_Pitfall09_StacksOneRowAndZeroSizeParametersAreMatrices) {
  add("experts", {4, 6, 9}, ParameterKind::matrix);
  add("row", {1, 9}, ParameterKind::matrix);
  add("none", {0, 9}, ParameterKind::matrix);
  const Groups groups(config, parameters);
  for (int i : {10, 11, 12}) EXPECT_EQ(groups.group_for(i).config.name, "matrices");
}

TEST(Pattern, StarsMatchAnyRunAndQuestionMarksOne) {
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_TRUE(matches_pattern("*.qkv.*", "blocks.10.attention.qkv.weight"));
  EXPECT_TRUE(matches_pattern("blocks.?.norm", "blocks.3.norm"));
  EXPECT_FALSE(matches_pattern("blocks.?.norm", "blocks.13.norm"));
  EXPECT_FALSE(matches_pattern("qkv", "blocks.qkv"));
  EXPECT_FALSE(matches_pattern("qkv*x", "qkv"));
  EXPECT_TRUE(matches_pattern("a*b*c", "aXbYbZc"));  // the first star must give way
  EXPECT_FALSE(matches_pattern("a*b*c", "aXbYbZ"));
  EXPECT_TRUE(matches_pattern("**", "x"));
  EXPECT_FALSE(matches_pattern("", "x"));
}
