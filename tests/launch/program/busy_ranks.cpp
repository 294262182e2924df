// Ranks that are at work for 30 s while one of them cannot talk to the others any more: busy_ranks run|save|until-stopped.
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "dist/comm/agreement.h"
#include "dist/comm/decorators.h"
#include "dist/mpi/mpi.h"
#include "launch/program/long_work.h"
#include "launch/program/worker.h"

namespace {

using namespace muonp;
constexpr int kSeconds = 30;

void work() { std::this_thread::sleep_for(std::chrono::seconds(kSeconds)); }

void work_until(const std::function<void()>& asks_to_stop) {
  for (int i = 0; i < 10 * kSeconds; ++i, asks_to_stop()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

void run(const std::string& mode, dist::Communicator& communicator) {
  if (mode == "until-stopped") return launch::run_on_all_until_stopped(communicator, work_until);
  if (mode == "run") return launch::run_on_all_in_contact(communicator, work);
  launch::Worker worker;
  launch::wait_in_contact(communicator, worker.run(work));
}

}  // namespace

int main(int, char** argv) {
  dist::MpiSession session;
  try {
    const auto comm = dist::make_mpi(session, 2 * kSeconds);
    dist::Faulty faulty(*comm, session.rank() == 1 ? 3 : -1, dist::Fault::error);
    run(argv[1], faulty);
  } catch (const std::exception& e) {
    session.abort_all(e.what());
  }
  return 0;
}
