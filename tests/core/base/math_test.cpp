#include "core/base/math.h"

#include <gtest/gtest.h>

#include <vector>

using namespace muonp::core;

namespace {

// Floats of every exponent and sign, and a fine grid where results are neither 0 nor infinite.
std::vector<float> samples() {
  std::vector<float> x;
  for (std::uint64_t bits = 0; bits <= 0xffffffffull; bits += 32749)  // a prime step: all kinds of mantissas
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  for (int i = -900000; i <= 900000; ++i) x.push_back(static_cast<float>(i) * 1e-4f);
  return x;
}

// Largest error in units of the last place where the exact result is a normal float.
template <class F, class Exact>
double worst_ulp(const F& f, const Exact& exact) {
  double worst = 0;
  for (const float x : samples()) {
    const double want = exact(static_cast<double>(x));
    if (!std::isfinite(want) || std::abs(want) < 0x1p-126 || std::abs(want) > 0x1.fffffep127) continue;
    const double ulp = std::ldexp(1.0, std::ilogb(want) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(f(x)) - want) / ulp);
  }
  return worst;
}

}  // namespace

TEST(Math, ErrorsStayBelowTheStatedBounds) {
  EXPECT_LE(worst_ulp([](float x) { return math::exp(x); }, [](double x) { return std::exp(x); }), 2);
  EXPECT_LE(worst_ulp([](float x) { return math::tanh(x); }, [](double x) { return std::tanh(x); }), 4);
  EXPECT_LE(worst_ulp([](float x) { return math::log(x); }, [](double x) { return std::log(x); }), 3);
  EXPECT_LE(worst_ulp([](float x) { return x < -87 ? 1 / (1 + std::exp(-x)) : math::sigmoid(x); },
                      [](double x) { return 1 / (1 + std::exp(-x)); }),
            4);
}

TEST(Math, ExpHasExactLimits) {
  EXPECT_EQ(math::exp(0.0f), 1.0f);
  EXPECT_EQ(math::exp(-INFINITY), 0.0f);
  EXPECT_EQ(math::exp(-88.0f), 0.0f);  // below the smallest normal number
  EXPECT_EQ(math::exp(INFINITY), INFINITY);
  EXPECT_EQ(math::exp(88.73f), INFINITY);
  EXPECT_TRUE(std::isfinite(math::exp(88.72f)));
  EXPECT_GT(math::exp(-87.33f), 0.0f);
  EXPECT_TRUE(std::isnan(math::exp(NAN)));
}

TEST(Math, LimitsOfTheOthers) {
  EXPECT_EQ(math::sigmoid(-INFINITY), 0.0f);
  EXPECT_EQ(math::sigmoid(INFINITY), 1.0f);
  EXPECT_TRUE(std::isnan(math::sigmoid(NAN)));
  EXPECT_EQ(math::tanh(INFINITY), 1.0f);
  EXPECT_EQ(math::tanh(-50.0f), -1.0f);
  EXPECT_EQ(math::tanh(0.0f), 0.0f);
  EXPECT_TRUE(std::isnan(math::tanh(NAN)));
  EXPECT_EQ(math::log(0.0f), -INFINITY);
  EXPECT_EQ(math::log(1.0f), 0.0f);
  EXPECT_EQ(math::log(INFINITY), INFINITY);
  EXPECT_NEAR(math::log(1e-44f), std::log(static_cast<double>(1e-44f)), 1e-4);
  EXPECT_TRUE(std::isnan(math::log(-1.0f)));
  EXPECT_TRUE(std::isnan(math::log(NAN)));
}

TEST(Math, SineAndCosineOfTurns) {
  for (int i = -200000; i <= 200000; ++i) {
    const float u = static_cast<float>(i) * 1e-5f;
    const math::SinCos got = math::sincos_turns(u);
    ASSERT_NEAR(got.sin, std::sin(2 * M_PI * double(u)), 0x1p-22) << u;
    ASSERT_NEAR(got.cos, std::cos(2 * M_PI * double(u)), 0x1p-22) << u;
  }
}

// Inside a loop the compiler makes vector code of them; it must round as the scalar code does.
TEST(Math, VectorisedLoopsGiveTheScalarResults) {
  const std::vector<float> x = samples();
  std::vector<float> y(x.size());
  const float* in = x.data();
  float* out = y.data();
  for (std::size_t i = 0; i < y.size(); ++i) out[i] = math::exp(in[i]);
  for (std::size_t i = 0; i < y.size(); i += 977) {
    volatile float one = x[i];
    const float alone = math::exp(one);
    ASSERT_TRUE(alone == y[i] || (std::isnan(alone) && std::isnan(y[i]))) << x[i];
  }
}
