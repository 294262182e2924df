// A job in which something goes wrong, with the ending that a program of ranks should have: failing_ranks
// MODE [RANK], the rank to which it happens (1). In a MODE that ends in -init it happens before MPI is started, in -start
// before the first communicator is made, in -inside while the rank is in a collective, otherwise between two of them; in one
// with -unnoticed mpirun does not see it. late-init starts MPI after the time-out for it, but before the others give up.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "core/device/tensor.h"
#include "dist/comm/agreement.h"
#include "dist/mpi/mpi.h"
#include "dist/nccl/nccl.h"
#include "dist/staged/staged.h"

namespace {

using namespace muonp;

constexpr double kTimeout = 2, kStart = 4;  // seconds

// The others wait in an operation between GPUs when a rank ends or stops.
void work_on_gpus(const std::string& mode, bool bad, int local_rank, dist::Communicator& comm) {
  const auto device = core::make_cuda_device(local_rank, fmt::format("rank {}", comm.rank()));
  std::unique_ptr<dist::Communicator> gpus;
  if (mode.starts_with("staged-"))
    gpus = dist::make_staged(*device, comm);
  else
    gpus = dist::make_nccl(*device, comm, kTimeout);
  const auto data = core::Tensor::zeros(*device, {1000}, core::Dtype::float32, core::Category::other);
  gpus->all_gather(dist::Span(data));
  device->queue().synchronize();
  gpus->barrier();
  if (bad) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::raise(mode.ends_with("-stop") ? SIGSTOP : SIGKILL);
  }
  gpus->all_reduce(dist::Span(data), dist::Reduce::sum);
  device->queue().synchronize();
  for (;;) gpus->wait_for({});  // until the watchdog has seen it
}

void kill_or_stop(const std::string& mode) {
  if (mode.starts_with("kill")) std::raise(SIGKILL);
  if (mode.starts_with("stop")) std::raise(SIGSTOP);
}

// A thread of its own strikes while the ranks do nothing but communicate.
void work_inside(const std::string& mode, bool bad, dist::Communicator& comm) {
  const std::jthread striker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    if (bad) kill_or_stop(mode);
  });
  std::vector<float> data(static_cast<std::size_t>(comm.size()) * 1000000);
  const dist::Span span(data.data(), static_cast<std::int64_t>(data.size()), core::Dtype::float32);
  for (;;) comm.all_reduce(span, dist::Reduce::sum);
}

// Data for one peer only in each operation: who waits for whom says little about who is gone.
void work_in_pairs(bool bad, dist::Communicator& comm) {
  const int peer = comm.rank() ^ 1;
  float out = 0, in = 0;
  const dist::Transfer send{peer, dist::Span(&out, 1, core::Dtype::float32)};
  const dist::Transfer receive{peer, dist::Span(&in, 1, core::Dtype::float32)};
  if (bad) std::this_thread::sleep_for(std::chrono::seconds(600));
  comm.exchange({&send, 1}, {&receive, 1});
  const dist::Transfer across{3 - comm.rank(), dist::Span(&out, 1, core::Dtype::float32)};
  const dist::Transfer from{3 - comm.rank(), dist::Span(&in, 1, core::Dtype::float32)};
  comm.exchange({&across, 1}, {&from, 1});
}

void work(const std::string& mode, bool bad, dist::Communicator& comm) {
  comm.barrier();
  if (mode == "late-init") return;
  if (mode.ends_with("-inside")) return work_inside(mode, bad, comm);
  if (mode == "hang-in-pairs") return work_in_pairs(bad, comm);
  if (mode == "throw" && bad) core::fail("the disk is full");
  if (mode == "throw-all") core::fail("no such file");
  if (mode == "agreed") dist::run_on_all(comm, [&] { bad ? core::fail("no such file") : void(); });
  if (mode == "leave" && bad) std::_Exit(0);
  if (mode == "hang" && bad) std::this_thread::sleep_for(std::chrono::seconds(600));
  if (mode == "abort" && bad) comm.abort("enough");
  if (bad) kill_or_stop(mode);
  for (;;) comm.barrier();
}

// mpirun watches the parent, and sees nothing when the child is killed; unless it ends the parent.
void hide_from_mpirun() {
  if (fork() > 0)
    for (;;) pause();
  prctl(PR_SET_PDEATHSIG, SIGKILL);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const std::string bad_rank = argc > 2 ? argv[2] : "1";
  const char* rank = std::getenv("PMIX_RANK");
  const bool bad = rank != nullptr && rank == bad_rank;
  if (bad && mode.find("-unnoticed") != std::string::npos) hide_from_mpirun();
  if (bad && mode == "late-init") std::this_thread::sleep_for(std::chrono::duration<double>(kStart + 3));
  if (bad && mode.ends_with("-init")) kill_or_stop(mode);
  dist::MpiSession session(kTimeout, kStart);
  try {
    if (bad && mode.ends_with("-start")) mode.starts_with("throw") ? core::fail("no such file") : kill_or_stop(mode);
    const auto comm = dist::make_mpi(session, kTimeout);
    if (mode.starts_with("nccl-") || mode.starts_with("staged-"))
      work_on_gpus(mode, bad, session.local_rank(), *comm);
    else
      work(mode, bad, *comm);
  } catch (const dist::AgreedError& e) {
    if (session.rank() == 0) std::fprintf(stderr, "muonp: error: %s\n", e.what());
  } catch (const std::exception& e) {
    session.abort_all(e.what());
  }
  session.close();
  return mode == "late-init" ? 0 : 1;
}
