#include "optim/spectral/exponent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "core/base/error.h"

using namespace muonp::optim::spectral;
using muonp::core::Error;
using testing::HasSubstr;

namespace {

std::string message(std::string_view text) {
  try {
    parse_exponent(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(Exponent, FractionsAreReduced) {
  EXPECT_EQ(parse_exponent("1/2"), (Exponent{1, 2}));
  EXPECT_EQ(parse_exponent("2/4"), (Exponent{1, 2}));
  EXPECT_EQ(parse_exponent("-1/4"), (Exponent{-1, 4}));
  EXPECT_EQ(parse_exponent("-8/16"), (Exponent{-1, 2}));
  EXPECT_EQ(parse_exponent("0/3"), (Exponent{0, 1}));
  EXPECT_EQ(parse_exponent("5/5"), (Exponent{1, 1}));
  EXPECT_EQ(parse_exponent("13/15"), (Exponent{13, 15}));
}

TEST(Exponent, DecimalsThatAreRationals) {
  EXPECT_EQ(parse_exponent("0"), (Exponent{0, 1}));
  EXPECT_EQ(parse_exponent("1"), (Exponent{1, 1}));
  EXPECT_EQ(parse_exponent("+0.5"), (Exponent{1, 2}));
  EXPECT_EQ(parse_exponent("0.25"), (Exponent{1, 4}));
  EXPECT_EQ(parse_exponent("-0.25"), (Exponent{-1, 4}));
  EXPECT_EQ(parse_exponent("0.0625"), (Exponent{1, 16}));
  EXPECT_EQ(parse_exponent("2.5e-1"), (Exponent{1, 4}));
  EXPECT_EQ(parse_exponent("0.33333333"), (Exponent{1, 3}));
}

TEST(Exponent, EveryValidOneRoundTrips) {
  for (int d = 1; d <= 16; ++d)
    for (int n = -d / 2; n <= d; ++n) {
      if (std::gcd(n, d) != 1) continue;
      const Exponent p{n, d};
      EXPECT_EQ(parse_exponent(to_string(p)), p);
      EXPECT_EQ(p.h() - p.m(), n);
      EXPECT_EQ(parse_exponent(fmt::format("{:.9f}", p.value())), p);
    }
}

TEST(Exponent, OthersAreRefusedWithTheNearest) {
  EXPECT_THAT(message("2"), testing::AllOf(HasSubstr("p: 2"), HasSubstr("nearest are 1,"), HasSubstr("[-1/2, 1]")));
  EXPECT_THAT(message("-3/4"), HasSubstr("nearest are -1/2,"));
  EXPECT_THAT(message("1/17"), HasSubstr("nearest are 1/16"));
  EXPECT_THAT(message("0.333"), HasSubstr("nearest are 1/3"));
  EXPECT_THAT(message("0.26"), testing::AllOf(HasSubstr("1/4"), HasSubstr("4/15")));
}

TEST(Exponent, WhatIsNoNumberIsRefused) {
  for (const char* text : {"", "x", "1/", "/2", "1/0", "1/-2", "0.5x", "nan", "inf", "1//2", " 1/2", "--1"})
    EXPECT_NE(message(text), "") << text;
}

// In whole numbers: v = a/b lies nearest to n/d where |a·d − n·b|/d is smallest.
TEST(Exponent, TheNearestOfAnyRationalIsFoundExactlyAndTiesGoToTheSmallerDenominator) {
  int ties = 0;
  for (long b = 1; b <= 210; b += b < 40 ? 1 : 17)
    for (long a = -b / 2; a <= b; ++a) {
      Exponent best{0, 1};
      bool tie = false;
      for (long d = 1; d <= 16; ++d)
        for (long n = -d / 2; n <= d; ++n) {
          if (std::gcd(n, d) != 1) continue;
          const long here = std::labs(a * d - n * b) * best.denominator,
                     least = std::labs(a * best.denominator - best.numerator * b) * d;
          if (here < least) tie = false;
          if (here == least && (d != best.denominator || n != best.numerator)) tie = true;
          if (here < least || (here == least && d < best.denominator)) best = {static_cast<int>(n), static_cast<int>(d)};
        }
      ties += tie;
      EXPECT_EQ(nearest_exponent(static_cast<double>(a) / static_cast<double>(b)), best) << a << "/" << b;
    }
  EXPECT_GE(ties, 5);
  EXPECT_EQ(nearest_exponent(1.0 / 32), (Exponent{0, 1}));
  EXPECT_EQ(nearest_exponent(29.0 / 60), (Exponent{1, 2}));  // halfway to 7/15
  EXPECT_EQ(nearest_exponent(-0.5), (Exponent{-1, 2}));
}
