// A job in which something goes wrong, with the ending that a program of ranks should have: failing_ranks
// MODE.
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include "dist/agreement.h"
#include "dist/mpi.h"

namespace {

using namespace muonp;

void work(const std::string& mode, dist::Communicator& comm) {
  const bool bad = comm.rank() == 1;
  comm.barrier();
  if (mode == "throw" && bad) core::fail("the disk is full");
  if (mode == "throw-all") core::fail("no such file");
  if (mode == "agreed") dist::run_on_all(comm, [&] { bad ? core::fail("no such file") : void(); });
  if (mode == "kill" && bad) std::raise(SIGKILL);
  if (mode == "leave" && bad) std::_Exit(0);
  if (mode == "hang" && bad) std::this_thread::sleep_for(std::chrono::seconds(600));
  if (mode == "abort" && bad) comm.abort("enough");
  for (;;) comm.barrier();
}

}  // namespace

int main(int argc, char** argv) {
  dist::MpiSession session;
  try {
    const auto comm = dist::make_mpi(session, 2);
    work(argc > 1 ? argv[1] : "", *comm);
  } catch (const dist::AgreedError& e) {
    if (session.rank() == 0) std::fprintf(stderr, "muonp: error: %s\n", e.what());
  } catch (const std::exception& e) {
    session.abort_all(e.what());
  }
  session.close();
  return 1;
}
