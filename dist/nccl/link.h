// One rank's end of an NCCL clique. Its calls do not block: NCCL works beside the host, and is asked how far
// it is. So a thread that sees a time-out can abort whatever another thread waits for.
#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>

#include "dist/comm/communicator.h"

namespace muonp::dist {

// Another rank has ended, or cannot be reached.
struct RemoteError : core::Error {
  using core::Error::Error;
};

// Error, or RemoteError: "ncclAllReduce failed on rank 1 on node7, GPU 1: invalid usage (ncclInvalidUsage): what NCCL said
// last".
void check_nccl(ncclResult_t result, const char* call, ncclComm_t communicator = nullptr);

class NcclLink {
 public:
  // Collective over `host`. gpu: Device::identity(). The same Error on all ranks where one of them cannot, or
  // is not ready in time; it names ranks that share a GPU.
  NcclLink(Communicator& host, const std::string& gpu, double timeout_seconds);
  ~NcclLink() { abort(); }
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  // Returns when the call's work is on its stream, not when it is done. Error when NCCL refuses, or was
  // aborted.
  void issue(const char* name, const std::function<ncclResult_t(ncclComm_t)>& call);
  // What NCCL reports of operations that were issued; empty while all is well.
  std::string asynchronous_error();
  // The orderly end: all ranks, with no operation pending. Aborts when they do not come in time.
  void close();
  // Ends pending operations. By any thread.
  void abort() noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  void initialize(const ncclUniqueId& id, int rank, int size, Clock::time_point deadline);
  ncclResult_t settle(ncclResult_t result, Clock::time_point deadline);

  std::chrono::duration<double> timeout_;
  std::mutex mutex_;  // of every call with communicator_, which an abort takes away
  ncclComm_t communicator_ = nullptr;
};

}  // namespace muonp::dist
