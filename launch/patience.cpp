#include "launch/patience.h"

#include <chrono>
#include <future>
#include <thread>

#include "dist/agreement.h"

namespace muonp::launch {

void run_on_all_patiently(dist::Communicator& communicator, const std::function<void()>& work) {
  std::future<void> result = std::async(std::launch::async, work);
  auto pause = std::chrono::milliseconds(1);  // short work ends soon, long work need not be asked often
  for (;;) {
    const bool ready = result.wait_for(pause) == std::future_status::ready;
    if (dist::all_agree(communicator, ready)) break;
    pause = std::min(2 * pause, std::chrono::milliseconds(500));
  }
  dist::run_on_all(communicator, [&] { result.get(); });
}

void run_on_rank_zero(dist::Communicator& communicator, const std::function<void()>& work) {
  run_on_all_patiently(communicator, [&] {
    if (communicator.rank() == 0) work();
  });
}

}  // namespace muonp::launch
