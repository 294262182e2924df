// A build without the CUDA Toolkit: a CUDA device cannot exist in it, so neither can ranks that are joined by
// NCCL.
#include "core/base/error.h"
#include "dist/nccl/nccl.h"

namespace muonp::dist {

std::unique_ptr<Communicator> make_nccl(core::Device&, Communicator&, double) {
  core::fail("NCCL: {}", core::cuda_refusal());
}

}  // namespace muonp::dist
