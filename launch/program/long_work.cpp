#include "launch/program/long_work.h"

#include <atomic>
#include <chrono>

#include "dist/comm/agreement.h"
#include "launch/program/signals.h"

namespace muonp::launch {

bool ended(const std::future<void>& work) { return work.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }

namespace {

void wait_and_ask(dist::Communicator& communicator, const std::future<void>& work) {
  auto pause = std::chrono::milliseconds(1);  // short work ends soon, long work need not be asked often
  for (;;) {
    const bool ready = work.wait_for(pause) == std::future_status::ready;
    if (dist::all_agree(communicator, ready)) return;
    pause = std::min(2 * pause, std::chrono::milliseconds(500));
  }
}

}  // namespace

// Whoever owns the work waits for its end before anyone hears of a failure beside it, and the other ranks with it.
void wait_in_contact(dist::Communicator& communicator, const std::future<void>& work) {
  try {
    wait_and_ask(communicator, work);
  } catch (const std::exception& error) {
    if (!ended(work)) communicator.abort(error.what());
    throw;
  }
}

void run_on_all_in_contact(dist::Communicator& communicator, const std::function<void()>& work) {
  std::future<void> result = std::async(std::launch::async, work);
  wait_in_contact(communicator, result);
  dist::run_on_all(communicator, [&] { result.get(); });
}

void run_on_all_until_stopped(dist::Communicator& communicator,
                              const std::function<void(const std::function<void()>&)>& work) {
  std::atomic<bool> stop = false;
  std::future<void> result = std::async(std::launch::async, [&] {
    try {
      work([&stop] { stop ? throw Interrupted() : void(); });
    } catch (const Interrupted&) {  // all ranks know, and say so below
    }
  });
  try {
    auto pause = std::chrono::milliseconds(1);
    for (bool all_ready = false; !all_ready; pause = std::min(2 * pause, std::chrono::milliseconds(250))) {
      const bool ready = result.wait_for(pause) == std::future_status::ready;
      if (!dist::all_agree(communicator, !stop_requested())) stop = true;
      all_ready = dist::all_agree(communicator, ready);
    }
  } catch (...) {
    stop = true;  // `result` waits for the work, a second at most
    throw;
  }
  dist::run_on_all(communicator, [&] { result.get(); });
  if (stop) throw Interrupted();
}

void run_on_rank_zero(dist::Communicator& communicator, const std::function<void()>& work) {
  run_on_all_in_contact(communicator, [&] {
    if (communicator.rank() == 0) work();
  });
}

}  // namespace muonp::launch
