#include "launch/patience.h"

#include <chrono>

#include "dist/agreement.h"

namespace muonp::launch {

bool ended(const std::future<void>& work) {
  return work.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

void wait_for_all_patiently(dist::Communicator& communicator, const std::future<void>& work) {
  auto pause = std::chrono::milliseconds(1);  // short work ends soon, long work need not be asked often
  for (;;) {
    const bool ready = work.wait_for(pause) == std::future_status::ready;
    if (dist::all_agree(communicator, ready)) return;
    pause = std::min(2 * pause, std::chrono::milliseconds(500));
  }
}

void run_on_all_patiently(dist::Communicator& communicator, const std::function<void()>& work) {
  std::future<void> result = std::async(std::launch::async, work);
  wait_for_all_patiently(communicator, result);
  dist::run_on_all(communicator, [&] { result.get(); });
}

void run_on_rank_zero(dist::Communicator& communicator, const std::function<void()>& work) {
  run_on_all_patiently(communicator, [&] {
    if (communicator.rank() == 0) work();
  });
}

}  // namespace muonp::launch
