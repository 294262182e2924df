// The ZeRO stages that tests of checkpoints save at and open at.
#pragma once

namespace muonp::test {

inline constexpr int kZeroStages[] = {0, 1, 2, 3};

}  // namespace muonp::test
