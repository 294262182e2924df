// Ranks with GPUs that talk through the memory of their hosts: where NCCL is not, and where ranks share a GPU, which NCCL
// refuses.
#pragma once

#include <memory>

#include "core/device/device.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

// Ranks, size and results are those of `host` (MPI, threads), bit for bit. Spans are memory of `device`, a GPU; what an
// operation sends is copied to pinned memory, what it receives back from there, on a stream of their own. The pinned memory
// is as large as the largest operation's data; it is counted by the device's host_allocator().
//
// A thread of its own makes all operations, in order, and alone uses `host`, which with the device must outlive the
// communicator. Operations start after what the device's queue was given before them. The host waits until the data is in
// place; between begin_overlap() and end_overlap() it does not, and wait_for() waits for the host's thread.
//
// An operation that fails is an Error with host's message, as are all later ones.
std::unique_ptr<Communicator> make_staged(core::Device& device, Communicator& host);

}  // namespace muonp::dist
