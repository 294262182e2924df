// Times the MPI communicator against the MPI library's own collectives:
//   mpirun -np 2 communicator_bench
// One row per operation and size: median microseconds of a call, and GB/s of its network bytes per rank
// (bytes_sent() of dist/comm/operation.h over the median). Calls are interleaved, so that noise hits both alike.
#define OMPI_SKIP_MPICXX 1  // the C interface only
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "dist/comm/operation.h"
#include "dist/mpi/mpi.h"

namespace {

using namespace muonp;
using Clock = std::chrono::steady_clock;

struct Contender {
  const char* name;
  std::function<void()> call;
  std::vector<double> seconds;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void compare(dist::Communicator& comm, dist::OperationKind kind, std::int64_t bytes, std::vector<Contender> contenders) {
  const int repeats = bytes >= (16 << 20) ? 11 : bytes >= (1 << 20) ? 41 : 201;
  for (int i = 0; i < repeats; ++i)
    for (Contender& c : contenders) {
      comm.barrier();
      const auto start = Clock::now();
      c.call();
      double seconds[1] = {std::chrono::duration<double>(Clock::now() - start).count()};
      comm.all_reduce(seconds, dist::Reduce::max);
      c.seconds.push_back(seconds[0]);
    }
  if (comm.rank() != 0) return;
  const double sent = static_cast<double>(dist::bytes_sent({.kind = kind, .count = bytes / 4}, 0, comm.size()));
  for (const Contender& c : contenders) {
    const double s = median(c.seconds);
    std::printf("%-15s %9.0f KB  %-26s %10.0f us %7.2f GB/s\n", std::string(dist::name_of(kind)).c_str(),
                static_cast<double>(bytes) / 1024, c.name, s * 1e6, sent / s * 1e-9);
  }
  std::fflush(stdout);
}

void run(dist::Communicator& comm, std::int64_t bytes) {
  const std::int64_t count = bytes / 4 / comm.size() * comm.size(), slice = count / comm.size();
  std::vector<float> data(static_cast<std::size_t>(count), 1.0f), other(data);
  const dist::Span span(data.data(), count, core::Dtype::float32);
  const int n = static_cast<int>(count), part = static_cast<int>(slice);
  float* mine = data.data() + slice * comm.rank();
  std::vector<int> counts(static_cast<std::size_t>(comm.size()), part);
  compare(comm, dist::OperationKind::reduce_scatter, bytes,
          {{"ours", [&] { comm.reduce_scatter(span); }, {}},
           {"MPI_Reduce_scatter_block",
            [&] { MPI_Reduce_scatter_block(data.data(), other.data(), part, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); },
            {}},
           {"MPI_Reduce_scatter",
            [&] { MPI_Reduce_scatter(data.data(), other.data(), counts.data(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); },
            {}}});
  compare(comm, dist::OperationKind::all_gather, bytes,
          {{"ours", [&] { comm.all_gather(span); }, {}},
           {"MPI_Allgather",
            [&] { MPI_Allgather(MPI_IN_PLACE, 0, MPI_FLOAT, data.data(), part, MPI_FLOAT, MPI_COMM_WORLD); },
            {}}});
  std::fill(data.begin(), data.end(), 0.0f);
  compare(comm, dist::OperationKind::all_reduce, bytes,
          {{"ours", [&] { comm.all_reduce(span, dist::Reduce::sum); }, {}},
           {"MPI_Allreduce", [&] { MPI_Allreduce(MPI_IN_PLACE, data.data(), n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); }, {}}});
  mine[0] = 0;
}

void latencies(dist::Communicator& comm) {
  double value[1] = {0};
  compare(comm, dist::OperationKind::all_reduce_values, 8,
          {{"ours", [&] { comm.all_reduce(value, dist::Reduce::sum); }, {}},
           {"MPI_Allreduce", [&] { MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD); }, {}}});
  compare(comm, dist::OperationKind::barrier, 0,
          {{"ours", [&] { comm.barrier(); }, {}}, {"MPI_Barrier", [&] { MPI_Barrier(MPI_COMM_WORLD); }, {}}});
}

}  // namespace

int main() {
  dist::MpiSession session;
  try {
    const auto comm = dist::make_mpi(session, 60);
    if (session.rank() == 0) std::printf("%s\n", comm->description().c_str());
    latencies(*comm);
    for (std::int64_t kilobytes : {64, 1024, 16 * 1024, 64 * 1024}) run(*comm, kilobytes * 1024);
  } catch (const std::exception& e) {
    session.abort_all(e.what());
  }
  session.close();
  return 0;
}
