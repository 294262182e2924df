#include "core/config/step_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "core/base/error.h"
#include "core/config/config.h"

namespace muonp::core {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string refusal(const std::string& text) {
  return message([&] { StepValue::parse(text); });
}

struct Optimizer {
  StepValue lr = 0.5, momentum = 0.95;
  StepText p = "1/2";
  std::vector<StepValue> groups;
  void describe(Fields& f) {
    f.step_value("lr", lr, {.min = 0}, "rate");
    f.section(
        "matrices",
        [this](Fields& s) {
          s.step_value("momentum", momentum, {.min = 0, .max = 1}, "factor");
          s.step_text("p", p, "exponent");
        },
        "");
    f.section_list(
        "groups", groups.size(), [this](std::size_t n) { groups.resize(n); },
        [this](std::size_t i, Fields& s) { s.step_value("lr", groups[i], {}, ""); }, "");
  }
  Describe description() {
    return [this](Fields& f) { describe(f); };
  }
};

Optimizer read(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  Optimizer o;
  read_config_text(yaml, "a.yaml", overrides, o.description());
  return o;
}

const char* const kEachForm[] = {"0.95",
                                 "0.85@1 0.95@300",
                                 "switch 0.5@1 0.25@10",
                                 "linear 0.85@1 0.95@300 0.5@400",
                                 "cosine 0.1@1 0.01@500",
                                 "logistic 0.5 0.25 tau 0.03 width 0.02"};

TEST(StepValue, EachFormIsPrintedAsItWasWritten) {
  for (const char* text : kEachForm) {
    EXPECT_EQ(StepValue::parse(text).text(), text);
    EXPECT_EQ(StepText(text).text(), text);
    EXPECT_EQ(StepValue::parse(StepValue::parse(text).text()), StepValue::parse(text));
  }
  EXPECT_EQ(StepValue::parse("  1@1   2e-1@7 ").text(), "1.0@1 0.2@7");
  EXPECT_EQ(StepText("logistic 1/2 -1/4 tau 0.03 width 0.02").text(), "logistic 1/2 -1/4 tau 0.03 width 0.02");
}

TEST(StepValue, StandsInYamlAndInOverridesAndIsWrittenBack) {
  for (const std::string text : kEachForm) {
    for (Optimizer o : {read("matrices: {momentum: " + text + ", p: " + text + "}"),
                        read("{}", {"matrices.momentum=" + text, "matrices.p=" + text}),
                        read("matrices:\n  p: \"" + text + "\"\n  momentum: " + text + "\n")}) {
      EXPECT_EQ(o.momentum.text(), text);
      EXPECT_EQ(o.p.text(), text);
      const std::string written = write_config(o.description());
      EXPECT_THAT(written, HasSubstr("momentum: " + text + "\n"));
      Optimizer again = read(written);
      EXPECT_EQ(again.momentum, o.momentum);
      EXPECT_EQ(again.p, o.p);
    }
  }
}

TEST(StepValue, ValuesAreThoseOfTheFormulasAtEveryStep) {
  const auto line = [](double a, double b, double x) { return a + (b - a) * x; };
  StepValue logistic = StepValue::parse("logistic 0.5 -0.25 tau 0.3 width 0.05");
  logistic.set_run(50);
  const std::pair<StepValue, std::function<double(int)>> kTable[] = {
      {0.75, [](int) { return 0.75; }},
      {StepValue::parse("0.5@1 1@5 0@9"),
       [&](int t) { return t < 5   ? line(0.5, 1, (t - 1) / 4.0)
                           : t < 9 ? line(1, 0, (t - 5) / 4.0)
                                   : 0.0; }},
      {StepValue::parse("linear 0.5@1 1@5"), [&](int t) { return t < 5 ? line(0.5, 1, (t - 1) / 4.0) : 1.0; }},
      {StepValue::parse("switch 0.5@1 1@5"), [](int t) { return t < 5 ? 0.5 : 1.0; }},
      {StepValue::parse("cosine 0.1@1 0.5@11 0.2@31"),
       [&](int t) {
         const auto half = [](double x) { return (1 - std::cos(std::numbers::pi * x)) / 2; };
         return t < 11 ? line(0.1, 0.5, half((t - 1) / 10.0)) : t < 31 ? line(0.5, 0.2, half((t - 11) / 20.0)) : 0.2;
       }},
      {logistic, [](int t) { return -0.25 + 0.75 / (1 + std::exp((std::min(t, 50) / 50.0 - 0.3) / 0.05)); }}};
  for (const auto& [value, formula] : kTable)
    for (int t = 1; t <= 60; ++t) {
      EXPECT_NEAR(value.at(t), formula(t), 1e-15) << value.text() << " " << t;
      EXPECT_GE(value.at(t), value.smallest());
      EXPECT_LE(value.at(t), value.largest());
    }
}

TEST(StepValue, ATextIsTheOneUntilTheNextUnlessItIsToldOtherwise) {
  const StepText plain("1/2@1 0@5"), lines("linear 1/2@1 0@5");
  for (int t = 1; t <= 8; ++t) {
    EXPECT_EQ(plain.place(t).share, 0);
    EXPECT_EQ(plain.values()[plain.place(t).index], t < 5 ? "1/2" : "0");
    EXPECT_EQ(lines.place(t).share, t < 5 ? (t - 1) / 4.0 : 0.0);
  }
  EXPECT_FALSE(plain.continuous());
  EXPECT_TRUE(lines.continuous());
}

TEST(StepValue, WhatIsNoneIsRefusedWithWhatIsValid) {
  const std::pair<const char*, const char*> kTable[] = {
      {"", "it is empty"},
      {"x", "'x' is not a finite number"},
      {"1 2", "1 has no step"},
      {"1@1 2", "2 has no step"},
      {"1@2 2@3", "the first step is 2"},
      {"1@1 2@1", "step 1 after 1"},
      {"1@1 2@9 3@5", "step 5 after 9"},
      {"1@1 @5", "@5 has no value"},
      {"@1", "@1 has no value"},
      {"1@1 2@x", "'x' is not an integer"},
      {"1@1 2@1.5", "'1.5' is not a whole number"},
      {"1@0 2@3", "the first step is 0"},
      {"switch 1@1", "switch needs values at two steps"},
      {"linear", "linear needs values at two steps"},
      {"cosine 0.5", "0.5 has no step"},
      {"sine 1@1 2@5", "sine has no step"},
      {"logistic 1 0 tau 0.1", "two values, then tau and a number, then width"},
      {"logistic 1 0 width 0.1 tau 0.1", "two values, then tau"},
      {"logistic 1@1 0 tau 0.1 width 0.1", "'1@1' is not a"},
      {"logistic 1 0 tau 1.5 width 0.1", "tau is 1.5, a share of the run: 0 to 1"},
      {"logistic 1 0 tau 0.1 width 0", "width is 0, a share of the run above 0"},
      {"logistic 1 0 tau x width 0.1", "'x' is not a"}};
  for (const auto& [text, what] : kTable)
    EXPECT_THAT(refusal(text), AllOf(HasSubstr(what), HasSubstr("steps that rise from 1"), HasSubstr("logistic A B tau T")))
        << text;
}

TEST(StepValue, MistakesOfAFileAreNamedByTheirPath) {
  EXPECT_THAT(message([] { read("matrices: {momentum: 0.5@1 2@3}"); }),
              HasSubstr("a.yaml:1: matrices.momentum: 2.0 is out of range; it must be a number in [0, 1]"));
  EXPECT_THAT(message([] { read("matrices: {momentum: logistic 0.5 2 tau 0 width 1}"); }), HasSubstr("number in [0, 1]"));
  EXPECT_THAT(message([] { read("matrices: {momentum: cosine 0.5@1}"); }), HasSubstr("matrices.momentum: 'cosine 0.5@1'"));
  EXPECT_THAT(message([] { read("matrices: {p: cosine 1/2@1}"); }), HasSubstr("matrices.p: 'cosine 1/2@1'"));
  EXPECT_THAT(message([] { read("lr: fast"); }), HasSubstr("lr: expected a number ≥ 0, but 'fast'"));
  EXPECT_THAT(message([] { read("lr: [1, 2]"); }), HasSubstr("lr: expected a number"));
  EXPECT_THAT(message([] { read("matrices: {p: [1, 2]}"); }), HasSubstr("matrices.p: expected a text"));
}

TEST(StepValue, ASchedulesStepsAreThoseOfTheRun) {
  Optimizer o = read("{lr: 1@1 2@30, matrices: {p: 1/2@1 0@20, momentum: 0.5}, groups: [{lr: 1}, {lr: cosine 1@1 0@31}]}");
  set_run_length(o.description(), 31);
  EXPECT_EQ(
      message([&] { set_run_length(o.description(), 25, "optimizer."); }),
      "optimizer.lr: a schedule longer than the run: it has a value at step 30, and the run has 25 steps; valid are "
      "steps from 1 to 25\n"
      "optimizer.groups.1.lr: a schedule longer than the run: it has a value at step 31, and the run has 25 steps; valid "
      "are steps from 1 to 25");
  set_run_length(o.description(), 0);  // saves what it starts from
}

TEST(StepValue, WhatIsRelativeToTheRunNeedsItsLength) {
  Optimizer o = read("matrices: {p: logistic 1/2 0 tau 0.5 width 0.1}");
  EXPECT_TRUE(o.p.needs_run());
  EXPECT_THAT(message([&] { o.p.place(3); }), HasSubstr("a schedule relative to the run, whose length is not known"));
  EXPECT_THAT(message([&] { require_run_length(o.description(), "optimizer."); }),
              AllOf(testing::StartsWith("optimizer.matrices.p: it is relative to the run"), HasSubstr("for_run(steps)")));
  set_run_length(o.description(), 10);
  require_run_length(o.description());
  EXPECT_DOUBLE_EQ(o.p.place(5).share, 0.5);
  EXPECT_EQ(o.p.place(11).share, o.p.place(10).share);
  set_run_length(o.description(), 20);  // a run that goes on longer
  EXPECT_DOUBLE_EQ(o.p.place(10).share, 0.5);
}

}  // namespace
}  // namespace muonp::core
