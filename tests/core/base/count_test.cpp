#include "core/base/count.h"

#include <gtest/gtest.h>

#include <limits>

namespace muonp::core {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max(), kRoot = std::int64_t{1} << 32;

TEST(Count, IsThatOfIntegersWhereItFits) {
  EXPECT_EQ((Count(kMost - 1) + 1).value(), kMost);
  EXPECT_EQ((Count(kRoot / 4) * kRoot - 1).value(), kMost / 2);
  EXPECT_LT(Count(2), Count(3));
}

TEST(Count, ThrowsWhereItLeaves64Bits) {
  EXPECT_THROW(Count(kMost) + 1, std::overflow_error);
  EXPECT_THROW(Count(-2) - kMost, std::overflow_error);
  EXPECT_THROW(Count(kRoot) * kRoot, std::overflow_error);
}

}  // namespace
}  // namespace muonp::core
