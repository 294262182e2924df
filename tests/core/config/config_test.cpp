#include "core/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>

#include "core/base/error.h"

namespace muonp::core {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Group {
  std::string name;
  double lr = 0.1;
  std::vector<std::string> patterns;
  void describe(Fields& f) {
    f.text("name", name, "what it is called", Presence::required);
    f.real("lr", lr, {.min = 0}, "learning rate");
    f.text_list("patterns", patterns, "names of parameters");
  }
  bool operator==(const Group&) const = default;
};

struct Settings {
  std::int64_t steps = 0;  // out of range: has to be given
  std::int64_t seed = 7;
  std::string name = "run";
  std::string p = "1/2";
  double momentum = 0.95;
  bool nesterov = true;
  std::string method = "fast";
  std::vector<Group> groups;
  std::vector<std::string> files = {"a.txt", "b, c.txt"};

  void describe(Fields& f) {
    static constexpr std::array<std::string_view, 2> methods = {"fast", "exact"};
    f.section(
        "run",
        [this](Fields& s) {
          s.integer("steps", steps, {.min = 1}, "optimizer steps [steps]");
          s.integer("seed", seed, {}, "key of everything random");
          s.text("name", name, "name of the run");
        },
        "the run");
    f.section(
        "optimizer",
        [this](Fields& s) {
          s.text("p", p, "exponent");
          s.real("momentum", momentum, {.min = 0, .max = 1}, "momentum");
          s.boolean("nesterov", nesterov, "look ahead");
          s.choice("method", method, methods, "recurrence");
          s.section_list(
              "groups", groups.size(), [this](std::size_t n) { groups.resize(n); },
              [this](std::size_t i, Fields& g) { groups[i].describe(g); }, "parameter groups");
        },
        "how weights move");
    f.text_list("files", files, "what is read");
  }
  bool operator==(const Settings&) const = default;
};

Describe describe(Settings& settings) {
  return [&settings](Fields& f) { settings.describe(f); };
}

Settings read(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  Settings settings;
  read_config_text(yaml, "a.yaml", overrides, describe(settings));
  return settings;
}

std::string problem(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    read(yaml, overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

const std::string kSteps = "run:\n  steps: 3\n";  // what every valid file has to say

TEST(Config, ReadsEveryKindOfField) {
  const Settings s = read(
      "run: {steps: 10, seed: -4, name: 'a: b'}\n"
      "optimizer:\n"
      "  p: 1/3\n"
      "  momentum: 5e-1\n"
      "  nesterov: false\n"
      "  method: exact\n"
      "  groups:\n"
      "    - name: heads\n"
      "      lr: 0.5\n"
      "      patterns: [\"*.head\", embedding]\n"
      "    - {name: rest}\n"
      "files: []\n");
  EXPECT_EQ(s.steps, 10);
  EXPECT_EQ(s.seed, -4);
  EXPECT_EQ(s.name, "a: b");
  EXPECT_EQ(s.p, "1/3");
  EXPECT_EQ(s.momentum, 0.5);
  EXPECT_FALSE(s.nesterov);
  EXPECT_EQ(s.method, "exact");
  ASSERT_EQ(s.groups.size(), 2u);
  EXPECT_EQ(s.groups[0], (Group{"heads", 0.5, {"*.head", "embedding"}}));
  EXPECT_EQ(s.groups[1], (Group{"rest", 0.1, {}}));
  EXPECT_TRUE(s.files.empty());
}

TEST(Config, LeavesDefaultsWhereNothingIsSaid) {
  Settings expected;
  expected.steps = 3;
  EXPECT_EQ(read(kSteps), expected);
  EXPECT_EQ(read(kSteps + "optimizer:\n"), expected);  // a section whose keys are all commented out
}

TEST(Config, TextFieldsKeepNumbersAsText) {
  EXPECT_EQ(read(kSteps + "optimizer: {p: 0}\n").p, "0");
  EXPECT_EQ(read(kSteps + "optimizer: {p: -1/4}\n").p, "-1/4");
  EXPECT_EQ(read(kSteps + "optimizer: {p: 0.250}\n").p, "0.250");
  EXPECT_EQ(read(kSteps + "optimizer: {p: true}\n").p, "true");
}

TEST(Config, Pitfall42_UnknownKeyNamesPlaceNearestAndValidKeys) {
  EXPECT_EQ(problem(kSteps + "optimizer:\n  moment: 0.9\n"),
            "a.yaml:4: optimizer.moment: unknown key; did you mean 'momentum'? valid keys are 'p', 'momentum', "
            "'nesterov', 'method' and 'groups'");
  EXPECT_EQ(problem("rnu: {steps: 3}\n" + kSteps),
            "a.yaml:1: rnu: unknown key; did you mean 'run'? valid keys are 'run', 'optimizer' and 'files'");
  EXPECT_THAT(problem(kSteps + "xyzzy: 1\n"), AllOf(HasSubstr("unknown key; valid keys"), Not(HasSubstr("did you"))));
}

TEST(Config, Pitfall42_UnknownKeyInsideAListEntry) {
  EXPECT_THAT(problem(kSteps + "optimizer:\n  groups:\n    - name: a\n      rate: 1\n"),
              StartsWith("a.yaml:6: optimizer.groups.0.rate: unknown key;"));
}

TEST(Config, Pitfall42_GarbageNumbersAreRefused) {
  for (const std::string value : {"ten", "0x10", "12abc", "1.5", "nan", ".inf", "inf", "1e", "--1", "'3'", "[3]", "{a: 1}",
                                  "99999999999999999999", "1e30", "true", "1 000", "~", ""}) {
    EXPECT_THAT(problem("run:\n  steps: " + value + "\n"), StartsWith("a.yaml:2: run.steps: expected an integer ≥ 1"))
        << value;
  }
  for (const std::string value : {"half", "0.5x", "nan", ".nan", ".inf", "-inf", "infinity", "1e999", "1e-999", "0.5.5",
                                  "0,5", "1/2", "\"0.5\"", "[0.5]", ""}) {
    EXPECT_THAT(problem(kSteps + "optimizer:\n  momentum: " + value + "\n"),
                StartsWith("a.yaml:4: optimizer.momentum: expected a number in [0, 1]"))
        << value;
  }
  for (const std::string value : {"yes", "True", "1", "on", "\"true\"", "[true]", ""}) {
    EXPECT_THAT(problem(kSteps + "optimizer:\n  nesterov: " + value + "\n"),
                StartsWith("a.yaml:4: optimizer.nesterov: expected true or false"))
        << value;
  }
}

TEST(Config, IntegralDecimalsAreIntegers) {
  EXPECT_EQ(read("run: {steps: 1e3}").steps, 1000);
  EXPECT_EQ(read("run: {steps: 2.0}").steps, 2);
  EXPECT_EQ(read("run: {steps: +5}").steps, 5);
  EXPECT_EQ(read("run: {steps: 1, seed: -9223372036854775808}").seed, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(read("run: {steps: 9223372036854775807}").steps, std::numeric_limits<std::int64_t>::max());
}

TEST(Config, OutOfRangeSaysTheRange) {
  EXPECT_EQ(problem("run:\n  steps: 0\n"), "a.yaml:2: run.steps: 0 is out of range; it must be an integer ≥ 1");
  EXPECT_EQ(problem(kSteps + "optimizer:\n  momentum: 1.5\n"),
            "a.yaml:4: optimizer.momentum: 1.5 is out of range; it must be a number in [0, 1]");
}

TEST(Config, WrongChoiceSaysTheChoices) {
  EXPECT_EQ(
      problem(kSteps + "optimizer:\n  method: fats\n"),
      "a.yaml:4: optimizer.method: 'fats' is not a valid value; did you mean 'fast'? valid values are 'fast' and 'exact'");
}

TEST(Config, WrongKindsOfValues) {
  EXPECT_EQ(problem("run: 3\n"), "a.yaml:1: run: expected a section (keys with values), found '3'");
  EXPECT_THAT(problem("- 1\n- 2\n"), HasSubstr("a.yaml:1: expected a section (keys with values), found a list"));
  EXPECT_THAT(problem("just words\n"), HasSubstr("a.yaml:1: expected a section (keys with values), found 'just words'"));
  EXPECT_THAT(problem("run:\n  steps: 1\n  name: [a]\n"), StartsWith("a.yaml:3: run.name: expected a text"));
  EXPECT_THAT(problem("run:\n  steps: 1\n  name:\n"), HasSubstr("a.yaml:3: run.name: expected a text (\"\" for an empty"));
  EXPECT_THAT(problem(kSteps + "files: a.txt\n"), StartsWith("a.yaml:3: files: expected a list of texts, as in [a, b]"));
  EXPECT_THAT(problem(kSteps + "files: [a, [b]]\n"), StartsWith("a.yaml:3: files.1: expected a text, found a list"));
  EXPECT_THAT(problem(kSteps + "optimizer:\n  groups: {name: a}\n"),
              StartsWith("a.yaml:4: optimizer.groups: expected a list of sections, found a section"));
  EXPECT_THAT(problem(kSteps + "optimizer:\n  groups: [a]\n"),
              StartsWith("a.yaml:4: optimizer.groups.0: expected a section"));
}

TEST(Config, MissingRequiredKeys) {
  EXPECT_EQ(problem("files: []\n"), "a.yaml: run.steps: missing, and it has no default (optimizer steps [steps])");
  EXPECT_EQ(problem("\nrun:\n  name: a\n"), "a.yaml:2: run.steps: missing, and it has no default (optimizer steps [steps])");
  EXPECT_THAT(problem(kSteps + "optimizer:\n  groups:\n    - lr: 1\n"), HasSubstr("optimizer.groups.0.name: missing"));
  EXPECT_THAT(problem(kSteps + "optimizer:\n  groups:\n    - name: ''\n"),
              StartsWith("a.yaml:5: optimizer.groups.0.name: must not be empty"));
}

TEST(Config, AllProblemsOfAFileInOneMessage) {
  EXPECT_EQ(problem("run:\n  steps: 0\n  sede: 1\nfiles: 3\n"),
            "a.yaml:2: run.steps: 0 is out of range; it must be an integer ≥ 1\n"
            "a.yaml:3: run.sede: unknown key; did you mean 'seed'? valid keys are 'steps', 'seed' and 'name'\n"
            "a.yaml:4: files: expected a list of texts, as in [a, b], found '3'");
  std::string many = kSteps;
  for (int i = 0; i < 14; ++i) many += fmt::format("unknown{}: 1\n", i);
  EXPECT_THAT(problem(many), AllOf(HasSubstr("unknown9:"), Not(HasSubstr("unknown10:")), HasSubstr("\n... and 4 more")));
}

TEST(Config, SyntaxErrorsNameTheLine) {
  EXPECT_THAT(problem("run:\n  steps: [1, 2\nfiles: 3\n"), StartsWith("a.yaml:3: not valid YAML: "));
  EXPECT_THAT(problem("run:\n\tsteps: 1\n"), StartsWith("a.yaml:2: not valid YAML: "));
  EXPECT_THAT(problem("run: {steps: *x}\n"), StartsWith("a.yaml:1: not valid YAML: "));
  EXPECT_THAT(problem(kSteps + "---\n" + kSteps), HasSubstr("2 YAML documents"));
  EXPECT_THAT(problem(std::string(3000, '[')), HasSubstr("a.yaml:"));
}

TEST(Config, DuplicateKeysAreRefused) {
  EXPECT_EQ(problem("run:\n  steps: 1\n  seed: 2\n  steps: 3\n"),
            "a.yaml:4: steps: the key is given twice, first at a.yaml:2");
  EXPECT_THAT(problem(kSteps + "? [a]\n: 1\n"), HasSubstr("a key must be a plain word"));
}

TEST(Config, ReferencesThatMultiplyOrContainThemselvesEnd) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 8; ++i) {
    bomb += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) bomb += fmt::format("{}*a{}", j ? ", " : "", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(problem(bomb), HasSubstr("more than 100000 values"));
  EXPECT_THAT(problem("files: &x [*x]\n"), Not("no error"));
}

TEST(Config, OverridesUseTheSamePaths) {
  const Settings s = read("run: {steps: 3, name: first}\noptimizer: {groups: [{name: a, lr: 1}, {name: b, lr: 2}]}\n",
                          {"run.steps=1e2", "run.name=x y=z", "optimizer.p=-1/4", "optimizer.groups.1.lr=0.5",
                           "files=[c.txt, 'd, e.txt']", "optimizer.nesterov = false"});
  EXPECT_EQ(s.steps, 100);
  EXPECT_EQ(s.name, "x y=z");
  EXPECT_EQ(s.p, "-1/4");
  EXPECT_EQ(s.groups[0], (Group{"a", 1, {}}));
  EXPECT_EQ(s.groups[1], (Group{"b", 0.5, {}}));
  EXPECT_THAT(s.files, ElementsAre("c.txt", "d, e.txt"));
  EXPECT_FALSE(s.nesterov);
}

TEST(Config, AnOverrideMayGiveWhatTheFileLacks) {
  EXPECT_EQ(read("run: {seed: 1}\n", {"run.steps=5"}).steps, 5);
  EXPECT_EQ(read("", {"run.steps=5", "run.steps=6"}).steps, 6);
  EXPECT_EQ(read(kSteps, {"run.name="}).name, "");
  EXPECT_EQ(read(kSteps, {"optimizer.groups=[{name: z}]"}).groups.at(0).name, "z");
}

TEST(Config, Pitfall42_OverridesAreCheckedAsTheFileIs) {
  EXPECT_EQ(problem(kSteps, {"optimizer.moment=0.9"}),
            "--set optimizer.moment=0.9: optimizer.moment: unknown key; did you mean 'momentum'? valid keys are 'p', "
            "'momentum', 'nesterov', 'method' and 'groups'");
  EXPECT_EQ(problem(kSteps, {"run.steps=many"}),
            "--set run.steps=many: run.steps: expected an integer ≥ 1, but 'many' is not an integer");
  EXPECT_THAT(problem(kSteps, {"run.steps="}), HasSubstr("--set run.steps=: run.steps: expected an integer ≥ 1, found"));
  EXPECT_THAT(problem(kSteps, {"run=3"}), StartsWith("--set run=3: run: expected a section"));
  EXPECT_THAT(problem(kSteps, {"run.name.x=3"}), StartsWith("--set run.name.x=3: run.name: expected a text"));
  EXPECT_THAT(problem(kSteps, {"run.steps"}), StartsWith("--set run.steps: no '='"));
  EXPECT_THAT(problem(kSteps, {"run..steps=1"}), HasSubstr("empty part"));
  EXPECT_THAT(problem(kSteps, {"=1"}), HasSubstr("empty part"));
  EXPECT_THAT(problem(kSteps, {"files=[a"}), StartsWith("--set files=[a: not valid YAML"));
  EXPECT_THAT(problem(kSteps, {"optimizer.groups.0.lr=1"}), HasSubstr("no such entry; the list is empty"));
  EXPECT_THAT(problem(kSteps + "optimizer: {groups: [{name: a}]}\n", {"optimizer.groups.1.lr=1"}),
              HasSubstr("optimizer.groups.1: no such entry; valid entries are 0 to 0"));
  EXPECT_THAT(problem(kSteps, {"optimizer.groups=[{lr: 1}]"}), HasSubstr("optimizer.groups.0.name: missing"));
}

TEST(Config, ListEntriesStartFromTheirOwnDefaults) {
  Settings s;
  s.groups = {{"old", 99, {"x"}}};
  read_config_text(kSteps + "optimizer: {groups: [{name: new}]}\n", "a.yaml", {}, describe(s));
  EXPECT_EQ(s.groups.at(0), (Group{"new", 0.1, {}}));
}

Settings awkward() {
  Settings s;
  s.steps = 12;
  s.seed = std::numeric_limits<std::int64_t>::min();
  s.name = "tab\t \"quotes\" \\ line\n# : [x] {y} ümlaut \x01";
  s.p = "0";
  s.momentum = std::nextafter(0.1, 1.0);
  s.nesterov = false;
  s.groups = {{"null", 1e-300, {"", "~", "-", "---", "- a", "a: b", "*"}}, {" spaces ", 5e-324 * 1e30, {}}};
  s.files = {};
  return s;
}

TEST(Config, WrittenValuesReadBackExactly) {
  Settings s = awkward();
  const std::string yaml = write_config(describe(s));
  EXPECT_EQ(read(yaml), s) << yaml;
  Settings again = read(yaml);
  EXPECT_EQ(write_config(describe(again)), yaml);
}

TEST(Config, WriteRefusesWhatCannotBeReadBack) {
  Settings s;
  s.momentum = NAN;
  EXPECT_THROW(write_config(describe(s)), InternalError);
}

TEST(Config, ReferenceReadsBackToTheDefaults) {
  Settings s;
  const std::string reference = config_reference(describe(s));
  EXPECT_EQ(s, Settings{});
  Settings expected;
  expected.steps = 4;
  EXPECT_THAT(problem(reference), HasSubstr("run.steps: expected an integer ≥ 1, found nothing"));
  EXPECT_EQ(read(std::regex_replace(reference, std::regex("steps:\n"), "steps: 4\n")), expected) << reference;
}

TEST(Config, ValuesAreListedByTheirPaths) {
  Settings s;
  read_config_text("run: {steps: 8}\noptimizer: {groups: [{name: a b, lr: 1e-3}, {name: c}]}\n", "test", {}, describe(s));
  const NamedValues values = config_values(describe(s));
  for (const NamedValue& expected : NamedValues{{"run.steps", "8"},
                                                {"optimizer.nesterov", "true"},
                                                {"optimizer.groups", "2"},
                                                {"optimizer.groups.0.name", "\"a b\""},
                                                {"optimizer.groups.0.lr", "0.001"},
                                                {"files", "[a.txt, \"b, c.txt\"]"}})
    EXPECT_THAT(values, testing::Contains(expected)) << expected.name;
  s.steps = 9;
  NamedValues changed = config_values(describe(s));
  std::erase_if(changed, [&](const NamedValue& v) { return std::ranges::find(values, v) != values.end(); });
  EXPECT_EQ(changed, (NamedValues{{"run.steps", "9"}}));
}

TEST(Config, ReferenceSaysMeaningAndValidValues) {
  Settings s;
  const std::string reference = config_reference(describe(s));
  EXPECT_THAT(reference, HasSubstr("  # optimizer steps [steps] (an integer ≥ 1, required)\n  steps:\n"));
  EXPECT_THAT(reference, HasSubstr("  # momentum (a number in [0, 1])\n  momentum: 0.95\n"));
  EXPECT_THAT(reference, HasSubstr("  # recurrence (one of fast, exact)\n  method: fast\n"));
  EXPECT_THAT(reference, HasSubstr("  groups: []\n"));
  EXPECT_THAT(reference, HasSubstr("  #     lr: 0.1\n"));
}

class ConfigFile : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("muonp_config_{}", getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& content) const {
    const std::string path = folder_ / "a.yaml";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  static std::string problem_of(const std::string& path) {
    Settings s;
    try {
      read_config(path, {}, describe(s));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::filesystem::path folder_;
};

TEST_F(ConfigFile, IsRead) {
  Settings s;
  read_config(file("run: {steps: 8}\r\n"), {}, describe(s));
  EXPECT_EQ(s.steps, 8);
}

TEST_F(ConfigFile, ProblemsWithTheFileItself) {
  EXPECT_THAT(problem_of(folder_ / "none.yaml"), HasSubstr("none.yaml: cannot be opened: No such file"));
  EXPECT_THAT(problem_of(folder_), HasSubstr("is a folder"));
  EXPECT_THAT(problem_of(file("")), HasSubstr("a.yaml: the file is empty"));
  EXPECT_THAT(problem_of(file("# only a comment\n")), HasSubstr("the file is empty"));
  EXPECT_THAT(problem_of(file(std::string("run:\0\0", 6))), HasSubstr("binary data"));
  EXPECT_THAT(problem_of(file("run:\n  stepz: 1\n")), HasSubstr("a.yaml:2: run.stepz: unknown key"));
}

TEST(Nearest, SmallestEditDistance) {
  const std::vector<std::string> words = {"momentum", "method", "nesterov"};
  EXPECT_EQ(nearest("moment", words), "momentum");
  EXPECT_EQ(nearest("metohd", words), "method");
  EXPECT_EQ(nearest("x", std::vector<std::string>{}), "");
}

}  // namespace
}  // namespace muonp::core
