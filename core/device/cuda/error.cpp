#include "core/device/cuda/error.h"

#include <map>
#include <mutex>

#include "core/base/error.h"

namespace muonp::core::cuda {

namespace {

std::mutex context_mutex;

std::map<int, std::string>& contexts() {
  static std::map<int, std::string> by_device;
  return by_device;
}

}  // namespace

void set_context(int device, std::string context) {
  const std::lock_guard lock(context_mutex);
  contexts()[device] = std::move(context);
}

std::string context() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return "no GPU";
  const std::lock_guard lock(context_mutex);
  const auto found = contexts().find(device);
  return found == contexts().end() ? fmt::format("GPU {}", device) : found->second;
}

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported here is not to be found again by the next launch
  fail("{} failed on {}: {} ({})", call, context(), cudaGetErrorString(status), cudaGetErrorName(status));
}

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail("{} failed on {}: {} ({})", call, context(), cublasGetStatusString(status), cublasGetStatusName(status));
}

}  // namespace muonp::core::cuda
