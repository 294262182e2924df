#include "optim/rules/exponents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/base/error.h"
#include "optim/rules/muonp.h"
#include "optim/rules/spectral_step.h"

using namespace muonp;
using namespace muonp::optim;
using spectral::Exponent;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

Exponents of(const std::string& text, std::int64_t run = 0) {
  core::StepText schedule(text);
  if (run > 0) schedule.set_run(run);
  return Exponents(schedule);
}

std::vector<Exponent> by_enumeration(const Exponents& exponents, std::int64_t run) {
  std::vector<Exponent> all;
  for (std::int64_t t = 1; t <= run; ++t) all.push_back(exponents.at(t));
  std::ranges::sort(all, {}, &Exponent::value);
  all.erase(std::ranges::unique(all).begin(), all.end());
  return all;
}

}  // namespace

TEST(Exponents, EveryStepHasTheNearestOfTheFormula) {
  const std::pair<std::string, std::function<double(double)>> kTable[] = {
      {"1/3", [](double) { return 1.0 / 3; }},
      {"1/2@1 0@40", [](double t) { return t < 40 ? 0.5 : 0; }},
      {"switch 1/2@1 0@40", [](double t) { return t < 40 ? 0.5 : 0; }},
      {"linear 1/2@1 -1/4@61", [](double t) { return t < 61 ? 0.5 - 0.75 * (t - 1) / 60 : -0.25; }},
      {"cosine 1@1 0@100", [](double t) { return t < 100 ? 1 - (1 - std::cos(std::acos(-1.0) * (t - 1) / 99)) / 2 : 0; }},
      {"logistic 1/2 -1/4 tau 0.3 width 0.1",
       [](double t) { return -0.25 + 0.75 / (1 + std::exp((t / 100 - 0.3) / 0.1)); }}};
  for (const auto& [text, formula] : kTable) {
    const Exponents exponents = of(text, 100);
    for (std::int64_t t = 1; t <= 100; ++t) {
      const double exact = formula(static_cast<double>(t));
      EXPECT_NEAR(exponents.exact(t), exact, 1e-15) << text << " " << t;
      EXPECT_EQ(exponents.at(t), spectral::nearest_exponent(exact)) << text << " " << t;
    }
    EXPECT_EQ(exponents.all(), by_enumeration(exponents, 100)) << text;
  }
}

TEST(Exponents, AllAreThoseThatOccurAndNoOthers) {
  for (const std::string text :
       {"linear 1/2@1 0@4", "linear 0@1 1/2@50 -1/2@60", "cosine 1@1 -1/2@1000", "linear 1/16@1 1/16@9",
        "logistic 1 -1/2 tau 0.02 width 0.01", "logistic 1/2 1/3 tau 1 width 0.5"})
    for (const std::int64_t run : {1000, 5000}) EXPECT_EQ(of(text, run).all(), by_enumeration(of(text, run), run)) << text;
  EXPECT_LE(of("cosine 1@1 -1/2@1000000", 1000000).all().size(), 121u);
  EXPECT_THAT(of("1/2@1 0@5 1/2@9").all(), ElementsAre(Exponent{0, 1}, Exponent{1, 2}));
}

TEST(Exponents, ARunOfUnknownLengthHasTheEndsAlone) {
  const Exponents exponents = of("logistic 1/2 0 tau 0.5 width 0.1");
  EXPECT_THAT(exponents.all(), ElementsAre(Exponent{0, 1}, Exponent{1, 2}));
  EXPECT_THROW(exponents.at(1), core::Error);
  EXPECT_EQ(exponents.text(), "logistic 1/2 0 tau 0.5 width 0.1");
  EXPECT_EQ(of("linear 1/2@1 1/4@3", 9).text(), "linear 1/2@1 1/4@3, 3 exponents");
}

TEST(Exponents, AValueThatIsNoExponentIsRefused) {
  EXPECT_THROW(of("linear 1/2@1 2@5"), core::Error);
  EXPECT_THROW(of("logistic 1/2 0.33 tau 0.5 width 0.1"), core::Error);
}

// Owners are chosen once for all steps, and scratch memory is planned once.
TEST(Exponents, TheCostOfAStepIsTheMostOverTheExponentsThatOccur) {
  Muonp rule;
  const auto cost = [&](const core::StepText& p) {
    rule.p = p;
    const auto step = rule.matrix_step(core::DeviceKind::cpu);
    const std::vector<MatrixInput> inputs = {{.name = "w", .shape = {64, 32}, .in = {}, .out = {}}};
    return std::pair(step->cost("w", {64, 32}, nullptr), step->workspace_bytes(inputs));
  };
  double flops = 0;
  std::int64_t bytes = 0;
  const Exponents schedule = of("linear 1/2@1 1/4@9", 9);
  ASSERT_GT(schedule.all().size(), 4u);
  for (const Exponent p : schedule.all()) {
    flops = std::max(flops, cost(to_string(p)).first);
    bytes = std::max(bytes, cost(to_string(p)).second);
  }
  EXPECT_EQ(cost("linear 1/2@1 1/4@9"), std::pair(flops, bytes));
}
