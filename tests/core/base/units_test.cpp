#include "core/base/units.h"

#include <gtest/gtest.h>

#include <cmath>

namespace muonp::core {
namespace {

TEST(Units, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.00 KiB");
  EXPECT_EQ(format_bytes(1536 * 1024), "1.50 MiB");
  EXPECT_EQ(format_bytes((std::int64_t{1} << 30) - 1), "1.00 GiB");  // not "1024 MiB"
  EXPECT_EQ(format_bytes(std::int64_t{1} << 40), "1.00 TiB");
}

TEST(Units, Counts) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(12), "12");
  EXPECT_EQ(format_count(0.5), "0.50");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(999.6), "1.00 k");
  EXPECT_EQ(format_count(12345), "12.3 k");
  EXPECT_EQ(format_count(999999), "1.00 M");
  EXPECT_EQ(format_count(124.4e6), "124 M");
  EXPECT_EQ(format_count(1.5581e9), "1.56 B");
  EXPECT_EQ(format_count(NAN), "nan");
}

TEST(Units, Durations) {
  EXPECT_EQ(format_duration(0.00085), "850 us");
  EXPECT_EQ(format_duration(0.0123), "12.3 ms");
  EXPECT_EQ(format_duration(0.9999), "1.00 s");
  EXPECT_EQ(format_duration(59.9), "59.9 s");
  EXPECT_EQ(format_duration(59.99), "1 min 00 s");
  EXPECT_EQ(format_duration(185), "3 min 05 s");
  EXPECT_EQ(format_duration(7620), "2 h 07 min");
  EXPECT_EQ(format_duration(3599.9), "1 h 00 min");
  EXPECT_EQ(format_duration(INFINITY), "unknown");
}

TEST(Units, RatesAndPercents) {
  EXPECT_EQ(format_rate(12345, "tokens"), "12.3 k tokens/s");
  EXPECT_EQ(format_percent(0.6149), "61.5 %");
}

}  // namespace
}  // namespace muonp::core
