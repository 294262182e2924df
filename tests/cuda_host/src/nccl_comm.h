// One rank's side of a clique, and the calls that it has under way.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nccl.h"
#include "nccl_message.h"
#include "runtime.h"

namespace cuda_host::nccl {

// Closed when its last user lets go, so that an abort does not take it from under an operation.
class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return descriptor_; }
  void hang_up();  // ends what waits on it, here and at the hub

 private:
  int descriptor_;
};

enum class State { kOpen, kFinalized, kDestroyed, kAborted };

// One call with its buffers; null where it has none.
struct Request {
  Operation operation;
  const void* send;
  void* receive;
};

}  // namespace cuda_host::nccl

struct ncclComm {
  std::string id;
  int ranks, rank, device;
  bool blocking;

  cuda_host::Lock lock;  // of everything below
  cuda_host::nccl::State state = cuda_host::nccl::State::kOpen;
  std::shared_ptr<cuda_host::nccl::Socket> socket;
  bool in_progress = false;           // a call goes on beside the caller
  ncclResult_t result = ncclSuccess;  // the first failure; stays
  std::string text;                   // of that
  cuda_host::TicketRef last;          // of its last operation
  uint64_t calls = 0;
};

namespace cuda_host::nccl {

using CommRef = std::shared_ptr<ncclComm>;

CommRef make_comm(const ncclUniqueId& id, int ranks, int rank, bool blocking);
CommRef find_comm(const char* function, ncclComm_t handle);  // null, after a report, where it is none

void set_error(ncclComm& comm, ncclResult_t result, const std::string& text);
std::string last_error_text();

// Runs `work` now and gives the communicator's result; where it is not blocking, starts it and gives ncclInProgress.
ncclResult_t run(const CommRef& comm, std::function<void()> work);

void connect(const CommRef& comm);  // the handshake of all ranks
// Puts the calls on the stream as one operation.
void issue(const CommRef& comm, CUstream_st& stream, const std::vector<Request>& requests);
void finalize(const CommRef& comm);
// Ends what waits, and returns when no call is under way any more.
void hang_up(ncclComm& comm, State state);

}  // namespace cuda_host::nccl

namespace cuda_host {
void forget_communicators();  // at configure: waits for calls under way; all handles are dead then
}
