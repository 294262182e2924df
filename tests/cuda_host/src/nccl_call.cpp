// Operations and groups, as calls.
#include "nccl_call.h"

#include <algorithm>

namespace cuda_host::nccl {
namespace {

struct Group {
  int depth = 0;
  CommRef comm;
  CUstream_st* stream = nullptr;
  std::vector<Request> requests;
  ncclResult_t error = ncclSuccess;  // of a call within

  void reset() {
    comm.reset();
    stream = nullptr;
    requests.clear();
    error = ncclSuccess;
  }
  ~Group() {
    if (depth > 0) report("a thread ends within a group: ncclGroupStart without ncclGroupEnd");
  }
};
thread_local Group group;

ncclResult_t misuse(const char* function, const std::string& text, ncclResult_t result = ncclInvalidArgument) {
  report(std::string(function) + ": " + text);
  return result;
}

ncclResult_t check_comm(const char* function, ncclComm& comm) {
  bool in_progress = false;
  {
    Hold hold(comm.lock);
    if (comm.result != ncclSuccess) return comm.result;
    if (comm.state == State::kOpen && !comm.in_progress) return ncclSuccess;
    in_progress = comm.in_progress;
  }
  return misuse(function, in_progress ? "a call is in progress; wait for ncclCommGetAsyncError first"
                                      : "the communicator was finalized");
}

ncclResult_t check_device(const char* function, const ncclComm& comm, cudaStream_t handle, CUstream_st*& stream) {
  if (current_device_index() != comm.device) {
    return misuse(function, "the communicator is of device " + std::to_string(comm.device) + ", device " +
                                std::to_string(current_device_index()) + " is current");
  }
  if (handle == nullptr) return misuse(function, "on the legacy default stream");
  stream = find_stream(function, handle);
  if (stream == nullptr) return ncclInvalidArgument;
  if (stream->device != comm.device) {
    return misuse(function, "the communicator is of device " + std::to_string(comm.device) + ", the stream of device " +
                                std::to_string(stream->device));
  }
  return ncclSuccess;
}

ncclResult_t check_buffer(const char* function, const char* name, const void* pointer, size_t bytes, const ncclComm& comm,
                          const Operation& operation) {
  if (bytes == 0) return ncclSuccess;
  const Location at = locate(function, name, pointer, bytes);
  if (at.place == Place::kInvalid) return ncclInvalidArgument;
  if (at.place != Place::kDevice || at.device != comm.device) {
    return misuse(function,
                  std::string(name) + ": " + hex(pointer) + " is not memory of device " + std::to_string(comm.device));
  }
  if (reinterpret_cast<uintptr_t>(pointer) % size_of(operation.type) != 0) {
    return misuse(function, std::string(name) + ": " + hex(pointer) + " is not aligned to its type");
  }
  return ncclSuccess;
}

bool overlap(const void* a, size_t a_bytes, const void* b, size_t b_bytes) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return a_bytes > 0 && b_bytes > 0 && x < y + b_bytes && y < x + a_bytes;
}

// Where the operation is in place, one buffer lies at the right slice of the other.
bool in_place(const Request& r, int rank) {
  const auto* send = static_cast<const char*>(r.send);
  const auto* receive = static_cast<const char*>(r.receive);
  const size_t slice = static_cast<size_t>(rank) * r.operation.bytes();
  switch (r.operation.call) {
    case Call::kReduceScatter:
      return receive == send + slice;
    case Call::kAllGather:
      return send == receive + slice;
    default:
      return send == receive;
  }
}

ncclResult_t check_buffers(const char* function, const ncclComm& comm, const Request& r) {
  const size_t in = r.operation.input_bytes(comm.rank, comm.ranks), out = r.operation.output_bytes(comm.ranks);
  ncclResult_t result = check_buffer(function, "sendbuff", r.send, in, comm, r.operation);
  if (result == ncclSuccess) result = check_buffer(function, "recvbuff", r.receive, out, comm, r.operation);
  if (result != ncclSuccess) return result;
  if (is_collective(r.operation.call) && overlap(r.send, in, r.receive, out) && !in_place(r, comm.rank)) {
    return misuse(function, "sendbuff and recvbuff overlap otherwise than in place");
  }
  return ncclSuccess;
}

ncclResult_t check_values(const char* function, const ncclComm& comm, const Operation& o) {
  if (size_of(o.type) == 0) return misuse(function, "type " + std::to_string(o.type));
  const bool reduces = o.call == Call::kAllReduce || o.call == Call::kReduceScatter;
  if (reduces && !can_reduce(o.type, o.reduction)) {
    return misuse(function, std::string(name_of(o.reduction)) + " of " + name_of(o.type) + " is not modelled");
  }
  if (o.peer < 0 || o.peer >= comm.ranks) {
    return misuse(function, "rank " + std::to_string(o.peer) + " of " + std::to_string(comm.ranks));
  }
  return ncclSuccess;
}

// What one operation of a group writes, no other of it may touch.
ncclResult_t check_group() {
  const ncclComm& comm = *group.comm;
  for (const Request& a : group.requests) {
    const size_t written = a.operation.output_bytes(comm.ranks);
    for (const Request& b : group.requests) {
      if (&a == &b) continue;
      if (overlap(a.receive, written, b.send, b.operation.input_bytes(comm.rank, comm.ranks)) ||
          overlap(a.receive, written, b.receive, b.operation.output_bytes(comm.ranks))) {
        return misuse("ncclGroupEnd", describe(a.operation) + " writes what " + describe(b.operation) + " uses");
      }
    }
  }
  return ncclSuccess;
}

ncclResult_t launch() {
  const ncclResult_t checked = check_group();
  if (checked != ncclSuccess) return checked;
  return run(group.comm,
             [comm = group.comm, stream = group.stream, requests = group.requests] { issue(comm, *stream, requests); });
}

ncclResult_t add(const char* function, ncclComm_t handle, cudaStream_t stream_handle, Request request) {
  if (admit(function) != cudaSuccess) return ncclUnhandledCudaError;
  const CommRef comm = find_comm(function, handle);
  if (comm == nullptr) return ncclInvalidArgument;
  CUstream_st* stream = nullptr;
  ncclResult_t result = check_comm(function, *comm);
  if (result == ncclSuccess) result = check_device(function, *comm, stream_handle, stream);
  if (result == ncclSuccess) result = check_values(function, *comm, request.operation);
  if (result == ncclSuccess) result = check_buffers(function, *comm, request);
  if (result != ncclSuccess) return result;
  if (!group.requests.empty() && (group.comm != comm || group.stream != stream)) {
    return misuse(function, "several communicators or streams in one group are not modelled");
  }
  {
    Hold hold(comm->lock);
    request.operation.sequence = comm->calls++;
  }
  group.comm = comm;
  group.stream = stream;
  group.requests.push_back(request);
  return ncclSuccess;
}

ncclResult_t end_group() {
  ncclResult_t result = group.error;
  if (result == ncclSuccess && !group.requests.empty()) result = launch();
  group.reset();
  return result;
}

ncclResult_t call(ncclComm_t comm, cudaStream_t stream, const Request& request) {
  const ncclResult_t result = add(name_of(request.operation.call), comm, stream, request);
  if (group.depth == 0) {
    if (result == ncclSuccess) return end_group();
    group.reset();
  } else if (group.error == ncclSuccess) {
    group.error = result;
  }
  return result;
}

}  // namespace

bool refuse_in_group(const char* function) {
  if (group.depth == 0) return false;
  misuse(function, "within a group");
  return true;
}

}  // namespace cuda_host::nccl

using cuda_host::nccl::call;
using cuda_host::nccl::Call;

ncclResult_t ncclGroupStart() {
  ++cuda_host::nccl::group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  auto& group = cuda_host::nccl::group;
  if (group.depth == 0) {
    return cuda_host::nccl::misuse("ncclGroupEnd", "no ncclGroupStart before it", ncclInvalidUsage);
  }
  return --group.depth > 0 ? ncclSuccess : cuda_host::nccl::end_group();
}

ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return call(comm, stream, {{Call::kAllReduce, datatype, op, 0, count, 0}, sendbuff, recvbuff});
}

ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount, ncclDataType_t datatype,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, stream, {{Call::kReduceScatter, datatype, op, 0, recvcount, 0}, sendbuff, recvbuff});
}

ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount, ncclDataType_t datatype, ncclComm_t comm,
                           cudaStream_t stream) {
  return call(comm, stream, {{Call::kAllGather, datatype, ncclSum, 0, sendcount, 0}, sendbuff, recvbuff});
}

ncclResult_t ncclBroadcast(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return call(comm, stream, {{Call::kBroadcast, datatype, ncclSum, root, count, 0}, sendbuff, recvbuff});
}

ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return call(comm, stream, {{Call::kSend, datatype, ncclSum, peer, count, 0}, sendbuff, nullptr});
}

ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return call(comm, stream, {{Call::kRecv, datatype, ncclSum, peer, count, 0}, nullptr, recvbuff});
}
