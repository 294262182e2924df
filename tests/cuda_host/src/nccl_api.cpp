// Communicators, as calls.
#include <sys/random.h>

#include <cstdio>
#include <cstdlib>

#include "nccl_call.h"
#include "nccl_hub.h"

using cuda_host::Hold;
using cuda_host::nccl::CommRef;
using cuda_host::nccl::find_comm;
using cuda_host::nccl::State;

namespace {

std::chrono::milliseconds time_out() {
  const char* value = std::getenv("CUDA_HOST_NCCL_TIMEOUT");
  if (value == nullptr) return std::chrono::seconds(20);
  char* end = nullptr;
  const double seconds = std::strtod(value, &end);
  if (*end != '\0' || !(seconds > 0)) {
    std::fprintf(stderr, "cuda_host: CUDA_HOST_NCCL_TIMEOUT=%s: must be a number of seconds above 0\n", value);
    std::abort();
  }
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// Whether the clique may be spoken to: no other call under way, and no group open on this thread.
bool is_quiet(const char* function, ncclComm& comm) {
  bool in_progress = false;
  {
    Hold hold(comm.lock);
    in_progress = comm.in_progress;
  }
  if (in_progress) {
    cuda_host::report(std::string(function) + ": a call is in progress; wait for ncclCommGetAsyncError first");
    return false;
  }
  return !cuda_host::nccl::refuse_in_group(function);
}

template <class Result, class Value>
ncclResult_t give(const char* function, ncclComm_t handle, Result* result, Value value) {
  const CommRef comm = find_comm(function, handle);
  if (comm == nullptr || result == nullptr) return ncclInvalidArgument;
  *result = value(*comm);
  return ncclSuccess;
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  if (version == nullptr) return ncclInvalidArgument;
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
      return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t handle) {
  thread_local std::string text;
  if (handle == nullptr) {
    text = cuda_host::nccl::last_error_text();
  } else if (const CommRef comm = find_comm("ncclGetLastError", handle)) {
    Hold hold(comm->lock);
    text = comm->text;
  }
  return text.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (cuda_host::admit("ncclGetUniqueId") != cudaSuccess) return ncclUnhandledCudaError;
  if (id == nullptr) return ncclInvalidArgument;
  uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) return ncclSystemError;
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "cuda_host_nccl_%016llx", static_cast<unsigned long long>(number));
  return cuda_host::nccl::start_hub(id->internal, time_out()) ? ncclSuccess : ncclSystemError;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId commId, int rank) {
  return ncclCommInitRankConfig(comm, nranks, commId, rank, nullptr);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* handle, int nranks, ncclUniqueId commId, int rank, ncclConfig_t* config) {
  if (cuda_host::admit("ncclCommInitRank") != cudaSuccess) return ncclUnhandledCudaError;
  if (cuda_host::nccl::refuse_in_group("ncclCommInitRank")) return ncclInvalidUsage;
  constexpr ncclConfig_t kInitial = NCCL_CONFIG_INITIALIZER;
  if (handle == nullptr || nranks < 1 || rank < 0 || rank >= nranks) return ncclInvalidArgument;
  const bool initialized = config == nullptr || (config->size == kInitial.size && config->magic == kInitial.magic);
  if (!initialized) return ncclInvalidArgument;
  const int blocking = config == nullptr ? 1 : config->blocking;
  if (blocking != 0 && blocking != 1 && blocking != NCCL_CONFIG_UNDEF_INT) return ncclInvalidArgument;
  const CommRef comm = cuda_host::nccl::make_comm(commId, nranks, rank, blocking != 0);
  *handle = comm.get();
  const ncclResult_t result = cuda_host::nccl::run(comm, [comm] { cuda_host::nccl::connect(comm); });
  if (result != ncclSuccess && result != ncclInProgress) {
    cuda_host::nccl::hang_up(*comm, State::kDestroyed);
    *handle = nullptr;
  }
  return result;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
  return give("ncclCommGetAsyncError", handle, error, [](ncclComm& comm) {
    Hold hold(comm.lock);
    return comm.in_progress ? ncclInProgress : comm.result;
  });
}

ncclResult_t ncclCommCount(const ncclComm_t handle, int* count) {
  return give("ncclCommCount", handle, count, [](const ncclComm& comm) { return comm.ranks; });
}

ncclResult_t ncclCommUserRank(const ncclComm_t handle, int* rank) {
  return give("ncclCommUserRank", handle, rank, [](const ncclComm& comm) { return comm.rank; });
}

ncclResult_t ncclCommCuDevice(const ncclComm_t handle, int* device) {
  return give("ncclCommCuDevice", handle, device, [](const ncclComm& comm) { return comm.device; });
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  if (cuda_host::admit("ncclCommFinalize") != cudaSuccess) return ncclUnhandledCudaError;
  const CommRef comm = find_comm("ncclCommFinalize", handle);
  if (comm == nullptr || !is_quiet("ncclCommFinalize", *comm)) return ncclInvalidArgument;
  {
    Hold hold(comm->lock);
    if (comm->result != ncclSuccess) return comm->result;
    if (comm->state == State::kFinalized) return ncclInvalidArgument;
  }
  return cuda_host::nccl::run(comm, [comm] { cuda_host::nccl::finalize(comm); });
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  if (cuda_host::admit("ncclCommDestroy") != cudaSuccess) return ncclUnhandledCudaError;
  const CommRef comm = find_comm("ncclCommDestroy", handle);
  if (comm == nullptr || !is_quiet("ncclCommDestroy", *comm)) return ncclInvalidArgument;
  bool pending = false, open = false;
  {
    Hold hold(comm->lock);
    open = comm->state == State::kOpen && comm->result == ncclSuccess;
    pending = comm->last && !comm->last->done();
  }
  if (open && pending) cuda_host::report("ncclCommDestroy: operations are pending; wait for them, or finalize first");
  if (open) cuda_host::nccl::finalize(comm);
  cuda_host::nccl::hang_up(*comm, State::kDestroyed);
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  if (cuda_host::admit("ncclCommAbort") != cudaSuccess) return ncclUnhandledCudaError;
  const CommRef comm = find_comm("ncclCommAbort", handle);
  if (comm == nullptr || cuda_host::nccl::refuse_in_group("ncclCommAbort")) return ncclInvalidArgument;
  cuda_host::nccl::hang_up(*comm, State::kAborted);
  return ncclSuccess;
}
