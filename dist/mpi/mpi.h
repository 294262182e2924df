// Ranks as MPI processes on host memory. This header names no MPI type.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/index.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

inline constexpr double kMpiStartSeconds = 30;

// MPI from start to end; one per process, owned by main, outlives every communicator made from it. Each of them is used by
// one thread at a time, but for what communicator.h allows beside it.
class MpiSession {
 public:
  // Error if MPI gives less thread support than that, or has been started before in this process. Ranks wait for each other
  // when they start and end, at most `timeout_seconds`. MPI's own calls in this, which cannot be given up, may take
  // `start_seconds`: then this process says so and ends, and the launcher ends the others.
  explicit MpiSession(double timeout_seconds = kMpiStartSeconds, double start_seconds = kMpiStartSeconds);
  // close(); but while an exception unwinds, says so and ends the job, because the other ranks may be
  // waiting.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // Whether a launcher (mpirun, srun with PMI) started this process, told from the environment.
  static bool launched();

  int rank() const { return rank_; }
  int size() const { return size_; }
  int local_rank() const { return local_rank_; }  // among the ranks of this host
  int local_size() const { return local_size_; }
  int hosts() const { return hosts_; }
  const std::string& host() const { return host_names_[core::at(rank_)]; }
  const std::string& host_of(int rank) const { return host_names_[core::at(rank)]; }
  std::string library() const;                  // "Open MPI 4.1.4"
  std::mutex& calls() const { return calls_; }  // held in every call of MPI that communicates

  // The orderly end: collective; waits for all ranks.
  void close();

  // The other end: prints "muonp: error: rank 2 of 4 on host: why" to standard error and ends all ranks with
  // `status`. Ranks above 0 wait a moment first, so that a failure that several ranks see is printed once.
  [[noreturn]] void abort_all(const std::string& why, int status = 1) const noexcept;

 private:
  void meet(const char* operation);
  void count_hosts();
  const double timeout_seconds_, start_seconds_;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1, hosts_ = 1;
  std::vector<std::string> host_names_;
  bool open_ = true;
  mutable std::mutex calls_;
};

// Collective. Sums are in rank order. barrier(), all_gather_bytes(), the all_reduce of doubles, and all_gather and
// all_reduce of short data (dist/comm/operation.h) take ⌈log2 size⌉ messages of a rank and stage what they gather. All
// others are chunked messages between pairs (docs/parallelism.md); of a reduction between `size` ranks none is longer than
// mpi_reduction_bytes(size), and 2·(size − 1) of that length, or the span where it is shorter, are staged. An operation in
// which no message completes for `timeout_seconds` throws an Error that names the operation, its number, this rank and the
// ranks not heard from; so does an operation that MPI reports as failed. The communicator is unusable afterwards, and the
// memory of that operation must stay until the process ends. abort() is MpiSession::abort_all(): it does not return.
std::unique_ptr<Communicator> make_mpi(const MpiSession& session, double timeout_seconds);

// What is staged stays within 4 MiB up to 33 ranks; beyond that messages would get so short that a reduction was many of
// them and little data, so they are not cut below 64 KiB.
std::int64_t mpi_reduction_bytes(int size);

}  // namespace muonp::dist
