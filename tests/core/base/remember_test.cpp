#include "core/base/remember.h"

#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <string>

using namespace muonp::core;

TEST(Remember, ComputesOnceForEachKey) {
  std::map<int, std::string> known;
  int computed = 0;
  const auto text_of = [&](int key) { return remember(known, key, [&] { return std::to_string(++computed); }); };
  EXPECT_EQ(text_of(7), "1");
  EXPECT_EQ(text_of(8), "2");
  EXPECT_EQ(text_of(7), "1");
}

TEST(Remember, WhatThrowsLeavesNothingBehind) {
  std::map<int, std::string> known;
  const auto fail = []() -> std::string { throw std::runtime_error("out of memory"); };
  EXPECT_THROW(remember(known, 7, fail), std::runtime_error);
  EXPECT_TRUE(known.empty());
  EXPECT_EQ(remember(known, 7, [] { return "a design"; }), "a design");
}
