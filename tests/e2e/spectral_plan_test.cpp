// muonp bench spectral --dry: what the spectral step will do, planned without running.
#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/e2e/program.h"

namespace muonp::e2e {
namespace {

using Json = nlohmann::json;

class Dry : public ProgramTest {
 protected:
  int needed_gpus() const override { return 0; }
  Json plan(const std::string& arguments) const {
    const Outcome outcome = muonp("bench spectral --dry --json " + arguments);
    EXPECT_EQ(outcome.status, 0) << arguments << "\n" << outcome.err;
    return Json::parse(outcome.out, nullptr, false);
  }
  void expect_refusal(const std::string& arguments, int status, const std::string& what) const {
    const Outcome outcome = muonp("bench spectral --dry --json " + arguments);
    EXPECT_EQ(outcome.status, status) << arguments;
    EXPECT_NE(outcome.err.find(what), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  }
};

constexpr const char* kDtypes[] = {"float32", "tf32", "float16", "bfloat16"};

// What the keys say has to fit together, whatever the search chose.
void expect_a_plan(const Json& plan, std::int64_t rows, std::int64_t cols, const std::string& p, const std::string& dtype) {
  ASSERT_TRUE(plan.is_object());
  EXPECT_EQ(plan.at("rows"), rows);
  EXPECT_EQ(plan.at("cols"), cols);
  EXPECT_EQ(plan.at("p"), p);
  EXPECT_EQ(plan.at("dtype"), dtype);
  const auto degrees = plan.at("degrees").get<std::vector<int>>(), rebuilds = plan.at("rebuilds").get<std::vector<int>>();
  ASSERT_FALSE(degrees.empty());
  EXPECT_TRUE(std::ranges::all_of(degrees, [](int d) { return d >= 2 && d <= 16; })) << plan;
  EXPECT_TRUE(std::ranges::is_sorted(rebuilds, std::less_equal<>())) << plan;  // each once
  for (const int step : rebuilds) {
    EXPECT_GE(step, 1);
    EXPECT_LT(step, static_cast<int>(degrees.size())) << "nothing comes after the last step: " << plan;
  }
  EXPECT_TRUE(plan.at("keep_t").is_boolean());
  // A Gram matrix at least, and one product of the whole length.
  const double length = static_cast<double>(std::max(rows, cols)) / static_cast<double>(std::min(rows, cols));
  EXPECT_GE(plan.at("products").get<double>(), 1.5 * length) << plan;
  EXPECT_LE(plan.at("products").get<double>(), 40 * length) << plan;
  EXPECT_GT(plan.at("predicted_error").get<double>(), 0) << plan;
  EXPECT_LT(plan.at("predicted_error").get<double>(), 0.3) << plan;
}

TEST_F(Dry, EveryShapeStorageAndExponentHasItsPlan) {
  for (const char* p : {"0", "1/3", "1/2", "3/4"})
    for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{1024, 1024}, {4096, 1024}, {768, 2304}}) {
      const Json all = plan(fmt::format("--rows {} --cols {} --p {} --dtype float32,tf32,float16,bfloat16", rows, cols, p));
      ASSERT_EQ(all.at("others").size(), 3u);
      for (std::size_t i = 0; i < 4; ++i) {
        SCOPED_TRACE(fmt::format("{} x {}, p {}, {}", rows, cols, p, kDtypes[i]));
        Json one = i == 0 ? all : all.at("others")[i - 1];
        one["rows"] = all.at("rows");
        one["cols"] = all.at("cols");
        expect_a_plan(one, rows, cols, p, kDtypes[i]);
      }
    }
}

// The bounds that float16 schedules have to keep (docs/numerics.md), at the epsilon they are stated for.
TEST_F(Dry, HalfTakesNoMoreProductsThanItsBounds) {
  struct Bound {
    const char* p;
    std::int64_t rows;
    double products, error;
  };
  for (const Bound& b : {Bound{"1/2", 1024, 9.5, 0.01}, Bound{"1/2", 2048, 13.5, 0.01}, Bound{"1/2", 4096, 21.5, 0.01},
                         Bound{"0", 1024, 7.5, 0.015}, Bound{"0", 2048, 10.5, 0.015}, Bound{"0", 4096, 16.5, 0.015}}) {
    const Json half = plan(fmt::format("--dtype float16 --eps 1e-2 --rows {} --cols 1024 --p {}", b.rows, b.p));
    EXPECT_LE(half.at("products").get<double>(), b.products) << b.p << ", " << b.rows;
    EXPECT_LE(half.at("predicted_error").get<double>(), b.error) << b.p << ", " << b.rows;
  }
}

TEST_F(Dry, EpsilonIsAHundredthInFewBitsAndPositiveExponentsUnlessItIsSet) {
  const auto epsilon = [&](const std::string& more) {
    return plan("--rows 64 --cols 64 " + more).at("epsilon").get<double>();
  };
  for (const char* dtype : {"float16", "bfloat16", "tf32"}) {
    EXPECT_EQ(epsilon(fmt::format("--dtype {} --p 1/3", dtype)), 1e-2) << dtype;
    EXPECT_EQ(epsilon(fmt::format("--dtype {} --p 0", dtype)), 1e-3) << dtype;
    EXPECT_EQ(epsilon(fmt::format("--dtype {} --p -1/4", dtype)), 1e-3) << dtype;
    EXPECT_EQ(epsilon(fmt::format("--dtype {} --p 1/2 --eps 0.005", dtype)), 0.005) << dtype;
  }
  EXPECT_EQ(epsilon("--dtype float32 --p 1/3"), 1e-3);
}

TEST_F(Dry, TheSidesMayBeSwappedAndTheMachineIsNotAsked) {
  const std::string arguments = "--dtype float16 --p 1/2";
  Json tall = plan("--rows 4096 --cols 1024 " + arguments), wide = plan("--rows 1024 --cols 4096 " + arguments);
  for (const char* key : {"degrees", "rebuilds", "keep_t", "products", "predicted_error"}) EXPECT_EQ(tall[key], wide[key]);
  EXPECT_EQ(plan("--rows 4096 --cols 1024 --device cpu " + arguments), tall);
}

TEST_F(Dry, MethodsWithoutStepsOrBoundsSaySoByEmptyListsAndNull) {
  const Json svd = plan("--method svd --dtype float32 --rows 64 --cols 32 --p 1/2");
  EXPECT_EQ(svd.at("degrees"), Json::array());
  EXPECT_EQ(svd.at("rebuilds"), Json::array());
  EXPECT_TRUE(svd.at("predicted_error").is_null());
  const Json gram = plan("--method gram_newton_schulz@0 --dtype float16 --rows 1024 --cols 1024");
  EXPECT_EQ(gram.at("degrees"), Json({2, 2, 2, 2, 2}));
  EXPECT_EQ(gram.at("rebuilds"), Json({2}));
}

TEST_F(Dry, BadInputIsOneLine) {
  expect_refusal("--rows 0", 2, "--rows: 0 is out of range");
  expect_refusal("--cols 65537", 2, "--cols: 65537 is out of range");
  expect_refusal("--rows many", 2, "--rows");
  expect_refusal("--eps 2", 2, "--eps: 2 is out of range");
  expect_refusal("--eps 1e-7", 1, "epsilon: 1e-07 is out of range; valid are numbers from 1e-05 up to 1");
  expect_refusal("--tolerance 0", 2, "--tolerance: 0 is out of range");
  expect_refusal("--dtype float8", 1, "\"float8\" is no storage of the spectral step; valid are auto, float32");
  expect_refusal("--p 2", 1, "p: 2 is not a valid exponent");
  expect_refusal("--p half", 1, "p: ");
  expect_refusal("--method magic", 1, "magic");
  expect_refusal("--method newton_schulz5@1/2", 1, "newton_schulz5");
}

}  // namespace
}  // namespace muonp::e2e
