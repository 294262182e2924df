// Ranks as threads of one process: the multi-rank tests that debuggers and sanitizers can see whole.
#pragma once

#include <functional>

#include "dist/comm/communicator.h"

namespace muonp::dist {

// Runs body(communicator) on n threads, one a rank, and returns when all have ended. A body that throws
// aborts the group, so that the others' pending and later operations throw too. Rethrows the exception of the
// rank that failed first, as Error or InternalError with "rank 2 of 4: " before its message (other types
// become Error).
//
// Operations on a communicator are called by one thread at a time; abort() by any. What ranks call is
// compared before each operation and a difference is an Error on every rank, as is a rank whose body returns
// while others wait for it.
void run_ranks(int n, const std::function<void(Communicator&)>& body);

}  // namespace muonp::dist
