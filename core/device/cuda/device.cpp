#include "core/device/device.h"
#include "core/base/hostname.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "core/device/cuda/queue.h"

namespace muonp::core {

namespace {

// As PYTORCH_NO_CUDA_MEMORY_CACHING: for compute-sanitizer and the stand-in's guard bands, which see the ends of
// cudaMalloc's blocks only.
bool caches_memory() {
  const char* value = std::getenv("MUONP_NO_MEMORY_CACHE");
  const std::string_view off = value == nullptr ? "0" : value;
  if (off != "0" && off != "1") fail("MUONP_NO_MEMORY_CACHE={}: must be 0 or 1", off);
  return off == "0";
}

class CudaAllocator final : public CachingAllocator {
 public:
  CudaAllocator(int device, cudaStream_t stream) : CachingAllocator(caches_memory()), device_(device), stream_(stream) {}
  ~CudaAllocator() override { trim(); }

 private:
  void* obtain(std::int64_t bytes) override {
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, static_cast<std::size_t>(bytes));
    if (status == cudaSuccess) return block;
    if (status != cudaErrorMemoryAllocation) cuda::check(status, "cudaMalloc");
    cudaGetLastError();
    // Blocks about to be given back may still be in use by what was submitted.
    MUONP_CUDA(cudaStreamSynchronize(stream_));
    return nullptr;
  }
  void give_back(void* block) noexcept override { static_cast<void>(cudaFree(block)); }
  std::string where() const override {
    std::size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return fmt::format("on GPU {}", device_);
    return fmt::format("on {} ({} of {} bytes free)", cuda::context(), free, total);
  }

  int device_;
  cudaStream_t stream_;
};

// Copies from and to page-locked memory run at the link's rate, without a stop in a buffer of the driver's.
class PinnedAllocator final : public CachingAllocator {
 public:
  PinnedAllocator() : CachingAllocator(caches_memory()) {}
  ~PinnedAllocator() override { trim(); }

 private:
  void* obtain(std::int64_t bytes) override {
    void* block = nullptr;
    const cudaError_t status = cudaMallocHost(&block, static_cast<std::size_t>(bytes));
    if (status == cudaSuccess) return block;
    if (status != cudaErrorMemoryAllocation) cuda::check(status, "cudaMallocHost");
    cudaGetLastError();
    return nullptr;
  }
  void give_back(void* block) noexcept override { static_cast<void>(cudaFreeHost(block)); }
  std::string where() const override { return fmt::format("of pinned host memory for {}", cuda::context()); }
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int ordinal) : queue_(*this), allocator_(std::make_shared<CudaAllocator>(ordinal, queue_.stream())) {
    cudaDeviceProp properties{};
    MUONP_CUDA(cudaGetDeviceProperties(&properties, ordinal));
    name_ = fmt::format("{}, compute capability {}.{}, {:.1f} GiB", properties.name, properties.major, properties.minor,
                        static_cast<double>(properties.totalGlobalMem) / (1 << 30));
    identity_ = fmt::format("{}/{:04x}:{:02x}:{:02x}", core::hostname(), properties.pciDomainID, properties.pciBusID,
                            properties.pciDeviceID);
    queue_.allocate_workspace();
  }
  DeviceKind kind() const override { return DeviceKind::cuda; }
  std::string name() const override { return name_; }
  std::string identity() const override { return identity_; }
  Queue& queue() override { return queue_; }
  const std::shared_ptr<Allocator>& allocator() override { return allocator_; }
  const std::shared_ptr<Allocator>& host_allocator() override { return host_allocator_; }

 private:
  std::string name_, identity_;
  cuda::CudaQueue queue_;
  std::shared_ptr<Allocator> allocator_, host_allocator_ = std::make_shared<PinnedAllocator>();
};

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

}  // namespace

bool cuda_is_built() { return true; }

std::string cuda_refusal() {
  int driver = 0, runtime = 0, count = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return "no NVIDIA driver is installed here";
  if (driver < runtime && driver / 1000 < runtime / 1000)
    return fmt::format("the NVIDIA driver is too old: it supports CUDA up to {}, this build needs {}; update the driver",
                       version_text(driver), version_text(runtime));
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return "";
  cudaGetLastError();
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return "no GPU is visible to this process (is CUDA_VISIBLE_DEVICES empty?)";
  return fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
}

int cuda_device_count() {
  int count = 0;
  return cuda_refusal().empty() && cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::unique_ptr<Device> make_cuda_device(int ordinal, const std::string& owner) {
  if (const std::string refusal = cuda_refusal(); !refusal.empty()) fail("device: cuda: {}", refusal);
  const int count = cuda_device_count();
  if (ordinal < 0 || ordinal >= count)
    fail("device: cuda: {} is GPU {} of its host, where {} {} visible; start one rank per GPU", owner, ordinal, count,
         count == 1 ? "is" : "are");
  cuda::set_context(ordinal, fmt::format("{}, GPU {}", owner, ordinal));
  MUONP_CUDA(cudaSetDevice(ordinal));
  return std::make_unique<CudaDevice>(ordinal);
}

}  // namespace muonp::core
