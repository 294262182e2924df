// For test programs that mpirun starts (muonp_add_rank_tests; main is in rank_main.cpp).
#pragma once

#include "dist/mpi/mpi.h"

namespace muonp::test {

// Made anew for each test, so that a test that breaks it does not break the next one.
dist::Communicator& ranks();
const dist::MpiSession& session();

// An operation in which nothing moves for so long has failed [seconds].
inline constexpr double kRankTimeout = 15;

}  // namespace muonp::test
