// Ranks as GPUs, one each, joined by NCCL. This header names no type of CUDA or NCCL.
#pragma once

#include <memory>

#include "core/device/device.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

class NcclCommunicator : public Communicator {
 public:
  // A moment of the stream that operations run on, to be compared with those of the device's queue.
  virtual std::unique_ptr<core::TimePoint> now() = 0;
};

// What a message about a missing NCCL advises.
inline constexpr const char* kWithoutNccl =
    "parallel.transport: mpi lets GPUs talk through the hosts' memory and MPI instead";

// Collective. Ranks and size are those of `host` (MPI, threads or one rank), which carries the unique id and
// all that lies in host memory: barrier, all_reduce of doubles, all_gather_bytes. It and the device must
// outlive the communicator. Spans are memory of `device`, which is current on the calling thread.
//
// Operations run on a stream of their own. It is ordered with the device's queue by events only: an operation
// starts after what the queue was given before it, and the queue goes on after the operation; the host does
// not wait. Between begin_overlap() and end_overlap() the queue does not wait either.
//
// Sums are taken in an order of NCCL's choice, bfloat16 and float16 perhaps rounded after each addition, and
// a maximum or minimum may lose a NaN: what has to be the same for all forms of communicator is reduced in
// double precision on the host, or is float32 sums.
//
// Failures: an Error names the call or operation, rank, host and GPU. A thread watches: when an operation has
// not ended `timeout_seconds` after its turn on this GPU came, or NCCL reports an error, it aborts NCCL and
// `host` with that message, and every later operation throws it; abort() does the same. So ranks may compute
// for longer than the time-out, but may come that much later than others only. An operation that one rank cannot
// start ends in the same way, since the others would wait for it. Initialising may take half the time-out;
// two ranks on one GPU are an Error on every rank. Destruction waits for pending operations, each at most for
// the time-out; while an exception unwinds it aborts NCCL instead.
//
// Without the library, at build or at run time, an Error that says so.
std::unique_ptr<NcclCommunicator> make_nccl(core::Device& device, Communicator& host, double timeout_seconds);

}  // namespace muonp::dist
