// The group that is open on the calling thread.
#pragma once

#include "nccl_comm.h"

namespace cuda_host::nccl {

// true, after a report, where a group is open: the function cannot be called within one.
bool refuse_in_group(const char* function);

}  // namespace cuda_host::nccl
