// Who is there, among the ranks of a communicator. Internal to dist: includes mpi.h.
#pragma once

#define OMPI_SKIP_MPICXX 1  // the C interface only
#include <mpi.h>

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dist/mpi/mpi.h"

namespace muonp::dist {

inline constexpr int kRollCallTag = 0;  // in every communicator: messages have other tags

// Every rank that waits, or whose watchdog listens, tells all others so: the first one because its time is over, the others
// because it did. By any thread; once in a communicator, which is given up afterwards.
class RollCall {
 public:
  RollCall(const MpiSession& session, MPI_Comm comm) : session_(session), comm_(comm) {}
  // By another rank. Cheap: one look at what has arrived.
  bool is_called() const;
  // "nothing came from rank 2 (node7); nothing came from ...", or empty when all answer. The lowest of the ranks that wait
  // returns within a second, to speak for all. The others give it the time to end them; so does a rank that has not `waited`
  // for long, which may itself be the reason: a launcher wakes a rank that was stopped before it ends the job.
  std::string call(bool waited);

 private:
  struct Answers {
    std::vector<int> silent;
    std::set<int> waiting;
  };
  Answers collect(bool waited) const;

  const MpiSession& session_;
  MPI_Comm comm_;
  std::mutex calling_;
  std::optional<Answers> answers_;
};

}  // namespace muonp::dist
