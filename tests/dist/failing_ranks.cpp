// A job in which something goes wrong, with the ending that a program of ranks should have: failing_ranks
// MODE [RANK], the rank to which it happens (1).
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "core/tensor.h"
#include "dist/agreement.h"
#include "dist/mpi.h"
#include "dist/nccl.h"

namespace {

using namespace muonp;

// The others wait in an operation of NCCL when a rank ends or stops.
void work_on_gpus(const std::string& mode, bool bad, int local_rank, dist::Communicator& comm) {
  const auto device = core::make_cuda_device(local_rank, fmt::format("rank {}", comm.rank()));
  const auto nccl = dist::make_nccl(*device, comm, 2);
  const auto data = core::Tensor::zeros(*device, {1000}, core::Dtype::float32, core::Category::other);
  nccl->all_gather(dist::Span(data));
  device->queue().synchronize();
  nccl->barrier();
  if (bad) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::raise(mode == "nccl-stop" ? SIGSTOP : SIGKILL);
  }
  nccl->all_reduce(dist::Span(data), dist::Reduce::sum);
  device->queue().synchronize();
  for (;;) nccl->wait_for({});  // until the watchdog has seen it
}

void work(const std::string& mode, bool bad, dist::Communicator& comm) {
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
  const std::string mode = argc > 1 ? argv[1] : "";
  const std::string bad_rank = argc > 2 ? argv[2] : "1";
  if (const char* rank = std::getenv("PMIX_RANK"); mode == "nccl-kill-unnoticed" && rank && rank == bad_rank) {
    // mpirun watches the parent, and sees nothing when the child is killed.
    if (fork() > 0)
      for (;;) pause();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  }
  dist::MpiSession session;
  try {
    const auto comm = dist::make_mpi(session, 2);
    const bool bad = std::to_string(comm->rank()) == bad_rank;
    if (mode.starts_with("nccl-"))
      work_on_gpus(mode, bad, session.local_rank(), *comm);
    else
      work(mode, bad, *comm);
  } catch (const dist::AgreedError& e) {
    if (session.rank() == 0) std::fprintf(stderr, "muonp: error: %s\n", e.what());
  } catch (const std::exception& e) {
    session.abort_all(e.what());
  }
  session.close();
  return 1;
}
