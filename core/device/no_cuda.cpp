// A build without the CUDA Toolkit says so.
#include "core/base/error.h"
#include "core/device/device.h"

namespace muonp::core {

std::string cuda_refusal() {
  return "this build has no CUDA support (configure with -DMUONP_CUDA=ON where the CUDA Toolkit and NCCL are)";
}

int cuda_device_count() { return 0; }

std::unique_ptr<Device> make_cuda_device(int, const std::string&) { fail("device: cuda: {}", cuda_refusal()); }

}  // namespace muonp::core
