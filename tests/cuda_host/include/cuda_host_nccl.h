// Control of the stand-in's NCCL part. cuda_host::fail_next takes its functions' names as well ("ncclAllReduce" …);
// they return ncclUnhandledCudaError then.
#pragma once

#include <string>

#include "nccl.h"

namespace cuda_host {

// From now on ncclCommGetAsyncError of the communicators on this device gives `error`, and later calls fail with it, as
// after a fault of the network or of a peer. Pending operations go on.
void provoke_async_error(int device, ncclResult_t error, const std::string& text);
size_t live_communicators();  // neither destroyed nor aborted

}  // namespace cuda_host
