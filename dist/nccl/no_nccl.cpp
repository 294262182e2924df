// A build without NCCL: ranks with GPUs, if it can have them, talk to each other through the host.
#include "core/base/error.h"
#include "dist/nccl/nccl.h"

namespace muonp::dist {

std::unique_ptr<NcclCommunicator> make_nccl(core::Device&, Communicator&, double) {
  if (!core::cuda_is_built()) core::fail("NCCL: {}", core::cuda_refusal());
  core::fail("this build has no NCCL (nccl.h was not found when it was configured); {}", kWithoutNccl);
}

}  // namespace muonp::dist
