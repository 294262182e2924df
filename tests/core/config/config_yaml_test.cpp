// Files that this program writes are read alike by readers of YAML 1.1 and 1.2, and what cannot be seen in a file is named.
// The expected lines were compared once with what PyYAML, a reader of 1.1, makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/base/error.h"
#include "core/config/config.h"

namespace muonp::core {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string written(double value) {
  return write_config([&](Fields& f) { f.real("x", value, {}, ""); });
}
std::string written(std::string value) {
  return write_config([&](Fields& f) { f.text("x", value, ""); });
}

TEST(ConfigYaml, NumbersHaveAPoint) {
  const std::pair<double, std::string> kTable[] = {{1e-8, "1.0e-08"},
                                                   {1e-10, "1.0e-10"},
                                                   {3e-3, "0.003"},
                                                   {0.1, "0.1"},
                                                   {0, "0.0"},
                                                   {1, "1.0"},
                                                   {-3, "-3.0"},
                                                   {1e15, "1000000000000000.0"},
                                                   {1e16, "1.0e+16"},
                                                   {1e30, "1.0e+30"},
                                                   {1.5e-300, "1.5e-300"},
                                                   {5e-324, "5.0e-324"},
                                                   {1e6, "1000000.0"},
                                                   {std::numeric_limits<double>::max(), "1.7976931348623157e+308"}};
  for (const auto& [value, text] : kTable) {
    EXPECT_EQ(written(value), "x: " + text + "\n");
    double again = 7;
    read_config_text(written(value), "a.yaml", {}, [&](Fields& f) { f.real("x", again, {}, ""); });
    EXPECT_EQ(again, value) << text;
  }
}

TEST(ConfigYaml, TextsThatLookLikeSomethingElseAreQuoted) {
  const std::pair<std::string, std::string> kTable[] = {{"yes", "\"yes\""},
                                                        {"No", "\"No\""},
                                                        {"ON", "\"ON\""},
                                                        {"off", "\"off\""},
                                                        {"y", "\"y\""},
                                                        {"N", "\"N\""},
                                                        {"true", "\"true\""},
                                                        {"False", "\"False\""},
                                                        {"null", "\"null\""},
                                                        {"~", "\"~\""},
                                                        {"", "\"\""},
                                                        {"0", "\"0\""},
                                                        {"-1", "\"-1\""},
                                                        {"+1", "\"+1\""},
                                                        {"1_000", "\"1_000\""},
                                                        {"0o7", "\"0o7\""},
                                                        {"010", "\"010\""},
                                                        {"0x1F", "\"0x1F\""},
                                                        {"0b11", "\"0b11\""},
                                                        {"12:30:00", "\"12:30:00\""},
                                                        {"1e5", "\"1e5\""},
                                                        {"1.0e-08", "\"1.0e-08\""},
                                                        {".5", "\".5\""},
                                                        {".inf", "\".inf\""},
                                                        {"-.INF", "\"-.INF\""},
                                                        {".nan", "\".nan\""},
                                                        {"2026-11-26", "\"2026-11-26\""},
                                                        {"=", "\"=\""},
                                                        {"<<", "\"<<\""},
                                                        {"-", "\"-\""},
                                                        {"---", "\"---\""},
                                                        {"...", "\"...\""},
                                                        {".", "\".\""},
                                                        {"..", "\"..\""},
                                                        {"a b", "\"a b\""},
                                                        {"a: b", "\"a: b\""},
                                                        {"#x", "\"#x\""},
                                                        {"lr=1e-3", "\"lr=1e-3\""},
                                                        {"a\tb", "\"a\\tb\""},
                                                        {"\x01", "\"\\x01\""},
                                                        {"\xc2\x85", "\"\\x85\""},
                                                        {"\xe2\x80\xa8", "\"\\u2028\""},
                                                        {"\xef\xbb\xbf", "\"\\ufeff\""},
                                                        {"日本", "\"日本\""},
                                                        {"1/2", "1/2"},
                                                        {"-1/4", "-1/4"},
                                                        {"byte", "byte"},
                                                        {"runs/a", "runs/a"},
                                                        {"/data/x.txt", "/data/x.txt"},
                                                        {"../x", "../x"},
                                                        {"e5", "e5"},
                                                        {"inf", "inf"},
                                                        {"nothing", "nothing"},
                                                        {"top_k", "top_k"},
                                                        {"quickstart-p-1-2", "quickstart-p-1-2"}};
  for (const auto& [value, text] : kTable) {
    EXPECT_EQ(written(value), "x: " + text + "\n");
    std::string again = "before";
    read_config_text(written(value), "a.yaml", {}, [&](Fields& f) { f.text("x", again, ""); });
    EXPECT_EQ(again, value) << text;
  }
}

std::string problem(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  std::int64_t steps = 1, seed = 1;
  std::string name;
  try {
    read_config_text(yaml, "a.yaml", overrides, [&](Fields& f) {
      f.section(
          "run",
          [&](Fields& s) {
            s.integer("steps", steps, {}, "");
            s.integer("seed", seed, {}, "");
            s.text("name", name, "");
          },
          "");
    });
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ConfigYaml, TabsThatIndentAreNamed) {
  for (const auto& [yaml, line] : {std::pair<std::string, int>{"run:\n\tsteps: 1\n", 2},
                                   {"run:\n  steps: 1\n\tseed: 2\n", 3},
                                   {"run:\n  \tsteps: 1\n", 2},
                                   {"run:\n  steps: 1\n\t\n  seed: 2\n", 3},
                                   {"\trun: {}\n", 1}})
    EXPECT_EQ(problem(yaml),
              fmt::format("a.yaml:{}: not valid YAML: the line is indented with a tab; YAML indents with spaces", line));
  EXPECT_EQ(problem("run:\t\n  steps:\t1\t# said\n  seed: 2\t\n"), "no error");
}

TEST(ConfigYaml, SpacesThatAreNoneAreNamed) {
  EXPECT_THAT(problem("run:\n\xc2\xa0\xc2\xa0steps: 1\n"),
              AllOf(StartsWith("a.yaml:2: "), HasSubstr("a no-break space (U+00A0)")));
  EXPECT_THAT(problem("run:\n  steps:\xc2\xa0"
                      "1\n"),
              AllOf(StartsWith("a.yaml:2: "), HasSubstr("no-break space")));
  EXPECT_THAT(problem("run:\n  steps: 1\xc2\xa0\n"), AllOf(StartsWith("a.yaml:2: "), HasSubstr("no-break space")));
  EXPECT_THAT(problem("run:\n  steps: 1\n\xc2\xa0\n  seed: 2\n"),
              AllOf(StartsWith("a.yaml:3: "), HasSubstr("no-break space")));
  EXPECT_THAT(problem("run:\n\xe3\x80\x80steps: 1\n"), HasSubstr("(U+3000)"));
  EXPECT_EQ(problem("run:\n  name: \"a\xc2\xa0"
                    "b\"  # with\xc2\xa0one\n"),
            "no error");
  EXPECT_EQ(problem("run: {}\n", {"run.name=a\xe3\x80\x80"
                                  "b"}),
            "no error");
}

TEST(ConfigYaml, WhatOtherReadersUnderstandIsRefusedByName) {
  EXPECT_EQ(problem("base: &base {steps: 1}\nrun:\n  <<: *base\n"),
            "a.yaml:3: merge keys (<<) are not read here; write the keys themselves");
  EXPECT_EQ(problem("run:\n  steps: !!str 3\n"),
            "a.yaml:2: the tag tag:yaml.org,2002:str is not read here; write the value without it");
  EXPECT_THAT(problem("run: !mine {steps: 3}\n"), HasSubstr("the tag !mine is not read"));
}

TEST(ConfigYaml, OtherEncodingsAreNamed) {
  EXPECT_EQ(problem("run:\n  name: caf\xe9\n"), "a.yaml:2: not UTF-8, in which configurations are written");
  EXPECT_THAT(problem("run: {}\n", {"run.name=caf\xe9"}), HasSubstr("not UTF-8"));
  EXPECT_EQ(problem("\xef\xbb\xbfrun:\r\n  name: café\r\n"), "no error");
}

}  // namespace
}  // namespace muonp::core
