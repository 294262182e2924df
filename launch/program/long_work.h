// Work of unknown length at a point that all ranks reach: tokenising a text, writing a checkpoint. The ranks
// keep talking to each other meanwhile, so that one that takes minutes is not taken for one that died.
#pragma once

#include <functional>
#include <future>

#include "dist/comm/communicator.h"

namespace muonp::launch {

// Runs `work` on every rank (on a thread of its own) and returns when all have ended; if it threw on any
// rank, every rank throws a dist::AgreedError. `work` may not communicate. Collective. Where the ranks cannot talk to each
// other any more while this rank's work goes on, the communicator is aborted with that message rather than at its end.
void run_on_all_in_contact(dist::Communicator& communicator, const std::function<void()>& work);

// The same with `work` on rank 0 only.
void run_on_rank_zero(dist::Communicator& communicator, const std::function<void()>& work);

// The same on every rank, for work that may be given up: it calls the function it gets now and then, at least once a
// second. When any rank is asked to stop, that function throws, and when all have ended every rank throws Interrupted.
void run_on_all_until_stopped(dist::Communicator& communicator,
                              const std::function<void(const std::function<void()>&)>& work);

// For work that is under way. ended(): on this rank, now. wait_in_contact() returns when it has ended on all ranks;
// collective; aborts as above.
bool ended(const std::future<void>& work);
void wait_in_contact(dist::Communicator& communicator, const std::future<void>& work);

}  // namespace muonp::launch
