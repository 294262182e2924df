// Devices, versions, errors' names, and kernel attributes.
#include <algorithm>
#include <cstdio>
#include <iterator>

#include "cuda_runtime.h"
#include "runtime.h"

using cuda_host::call;
using cuda_host::Driver;
using cuda_host::Hold;
using cuda_host::runtime;

namespace {

// The limits of compute capability 9.0.
constexpr int kMaxThreads = 1024, kThreadsPerMultiprocessor = 2048, kBlocksPerMultiprocessor = 32;
constexpr int kSharedDefault = 48 << 10, kSharedOptin = 227 << 10, kSharedPerMultiprocessor = 228 << 10;
constexpr int kSharedReserved = 1 << 10, kL2Bytes = 50 << 20;

bool valid_device(int device) { return device >= 0 && device < runtime().settings.devices; }

cudaError_t version(int* result, int value) {
  if (result == nullptr) return cuda_host::keep_error(cudaErrorInvalidValue);
  *result = value;
  return cudaSuccess;
}

int dynamic_shared_limit(const void* kernel) {
  Hold hold(runtime().lock);
  const auto& limits = cuda_host::current_device().dynamic_shared_limits;
  const auto found = limits.find(kernel);
  return found == limits.end() ? kSharedDefault : static_cast<int>(found->second);
}

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorCudartUnloading, "cudaErrorCudartUnloading", "driver shutting down"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorText* find_error(cudaError_t error) {
  const auto* found = std::ranges::find(kErrors, error, &ErrorText::error);
  return found == std::end(kErrors) ? nullptr : found;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* found = find_error(error);
  return found == nullptr ? "unrecognized error code" : found->name;
}

const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* found = find_error(error);
  return found == nullptr ? "unrecognized error code" : found->text;
}

cudaError_t cudaDriverGetVersion(int* result) {
  constexpr int kOldDriver = 11040;
  switch (runtime().settings.driver) {
    case Driver::kNone:
      return version(result, 0);
    case Driver::kOld:
      return version(result, kOldDriver);
    case Driver::kOk:
      break;
  }
  return version(result, CUDART_VERSION);
}

cudaError_t cudaRuntimeGetVersion(int* result) { return version(result, CUDART_VERSION); }

cudaError_t cudaGetDeviceCount(int* count) {
  return call("cudaGetDeviceCount", [&] {
    if (count == nullptr) return cudaErrorInvalidValue;
    *count = runtime().settings.devices;
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return call("cudaSetDevice", [&] {
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    cuda_host::set_current_device(device);
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return call("cudaGetDevice", [&] {
    if (device == nullptr) return cudaErrorInvalidValue;
    *device = cuda_host::current_device_index();
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return call("cudaGetDeviceProperties", [&] {
    if (properties == nullptr) return cudaErrorInvalidValue;
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    cudaDeviceProp p{};
    std::snprintf(p.name, sizeof p.name, "host stand-in %d", device);
    p.uuid.bytes[15] = static_cast<char>(device + 1);
    p.totalGlobalMem = runtime().settings.memory;
    p.sharedMemPerBlock = kSharedDefault;
    p.sharedMemPerBlockOptin = kSharedOptin;
    p.sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
    p.warpSize = warpSize;
    p.maxThreadsPerBlock = kMaxThreads;
    std::ranges::copy(std::initializer_list<int>{1024, 1024, 64}, p.maxThreadsDim);
    std::ranges::copy(std::initializer_list<int>{0x7fffffff, 65535, 65535}, p.maxGridSize);
    p.major = 9;
    p.multiProcessorCount = cuda_host::settings().multiprocessors;
    p.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
    p.maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
    p.l2CacheSize = kL2Bytes;
    p.pciDomainID = cuda_host::settings().node;
    p.pciBusID = device + 1;
    *properties = p;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return call("cudaDeviceGetAttribute", [&] {
    if (value == nullptr) return cudaErrorInvalidValue;
    if (!valid_device(device)) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock:
        *value = kMaxThreads;
        break;
      case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = kSharedDefault;
        break;
      case cudaDevAttrWarpSize:
        *value = warpSize;
        break;
      case cudaDevAttrMultiProcessorCount:
        *value = cuda_host::settings().multiprocessors;
        break;
      case cudaDevAttrPciBusId:
        *value = device + 1;
        break;
      case cudaDevAttrPciDeviceId:
        *value = 0;
        break;
      case cudaDevAttrL2CacheSize:
        *value = kL2Bytes;
        break;
      case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = kThreadsPerMultiprocessor;
        break;
      case cudaDevAttrPciDomainId:
        *value = cuda_host::settings().node;
        break;
      case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        break;
      case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        break;
      case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = kSharedPerMultiprocessor;
        break;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = kSharedOptin;
        break;
      default:
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return call("cudaFuncSetAttribute", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) {
      return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
    }
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
    if (value < 0 || value > kSharedOptin) return cudaErrorInvalidValue;
    Hold hold(runtime().lock);
    cuda_host::current_device().dynamic_shared_limits[kernel] = static_cast<size_t>(value);
    return cudaSuccess;
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  return call("cudaFuncGetAttributes", [&] {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    *attributes = {};
    attributes->maxThreadsPerBlock = kMaxThreads;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    attributes->maxDynamicSharedSizeBytes = dynamic_shared_limit(kernel);
    return cudaSuccess;
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int block_size,
                                                          size_t dynamic_shared_bytes) {
  return call("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&] {
    if (blocks == nullptr || block_size <= 0) return cudaErrorInvalidValue;
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    *blocks = 0;
    if (block_size > kMaxThreads || dynamic_shared_bytes > static_cast<size_t>(kSharedOptin)) return cudaSuccess;
    const int warps = (block_size + warpSize - 1) / warpSize;
    const int by_threads = kThreadsPerMultiprocessor / (warps * warpSize);
    const int by_shared = kSharedPerMultiprocessor / (static_cast<int>(dynamic_shared_bytes) + kSharedReserved);
    *blocks = std::min({by_threads, by_shared, kBlocksPerMultiprocessor});
    return cudaSuccess;
  });
}
