#include <algorithm>
#include <limits>
#include <new>
#include <string>

#include "block.h"
#include "runtime.h"

namespace cuda_host {
namespace {

constexpr size_t kSharedDefault = size_t{48} << 10, kSharedOptin = size_t{227} << 10;

// Of the host thread, since one block runs on it at a time.
struct SharedMemory {
  size_t bytes = 0;  // of the block that runs
  unsigned char* base = static_cast<unsigned char*>(::operator new (kSharedOptin + kGuardBytes, std::align_val_t{256}));
  ~SharedMemory() { ::operator delete (base, std::align_val_t{256}); }
};

SharedMemory& shared_memory() {
  thread_local SharedMemory memory;
  return memory;
}

cudaError_t check_shape(const LaunchShape& shape) {
  const dim3 g = shape.grid, b = shape.block;
  if (g.x == 0 || g.y == 0 || g.z == 0 || b.x == 0 || b.y == 0 || b.z == 0) return cudaErrorInvalidConfiguration;
  if (g.x > 0x7fffffffU || g.y > 65535 || g.z > 65535) return cudaErrorInvalidConfiguration;
  if (b.x > 1024 || b.y > 1024 || b.z > 64 || uint64_t{b.x} * b.y * b.z > 1024) return cudaErrorInvalidConfiguration;
  Hold hold(runtime().lock);
  const auto& limits = current_device().dynamic_shared_limits;
  const auto raised = limits.find(shape.kernel);
  const size_t limit = raised == limits.end() ? kSharedDefault : std::max(raised->second, kSharedDefault);
  return shape.shared_bytes > limit ? cudaErrorInvalidValue : cudaSuccess;
}

void check_pointers(const void* const* pointers, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (pointers[i] == nullptr) continue;
    const std::string name = "argument " + std::to_string(i);
    const Location location = locate("kernel launch", name.c_str(), pointers[i], 0);
    if (location.place == Place::kPageable) {
      report("kernel launch: " + name + " is a pointer to pageable host memory, " + hex(pointers[i]));
    } else if (location.place == Place::kDevice && location.device != current_device_index()) {
      report("kernel launch: " + name + " is memory of device " + std::to_string(location.device) +
             ", the kernel runs on device " + std::to_string(current_device_index()));
    }
  }
}

void run_threads_in_turn(const KernelCall& call, dim3 block) {
  for (unsigned z = 0; z < block.z; ++z) {
    for (unsigned y = 0; y < block.y; ++y) {
      for (unsigned x = 0; x < block.x; ++x) {
        threadIdx = {x, y, z};
        call();
      }
    }
  }
}

bool run_block(const LaunchShape& shape, const KernelCall& call) {
  shared_memory().bytes = shape.shared_bytes;
  if (shape.shared_bytes > 0) {
    IgnoredBySanitizer ignored;
    fill(shared_memory().base, kFreshPattern, shape.shared_bytes);
  }
  if (!shape.has_barriers) {
    run_threads_in_turn(call, shape.block);
    return true;
  }
  if (!BlockRunner::of_this_thread().run(call, shape.block)) return false;
  return true;
}

void check_shared_guard(const LaunchShape& shape) {
  const unsigned char* end = shared_memory().base + shape.shared_bytes;
  const auto* pattern = reinterpret_cast<const unsigned char*>(&kGuardPattern);
  for (size_t i = 0; i < kGuardBytes; ++i) {
    if (end[i] == pattern[i % 2]) continue;
    report("kernel wrote " + std::to_string(i) + " bytes past its " + std::to_string(shape.shared_bytes) +
           " bytes of dynamic shared memory");
    return;
  }
}

void run_grid(const LaunchShape& shape, const KernelCall& call) {
  blockDim = shape.block;
  gridDim = shape.grid;
  unsigned char* end = shared_memory().base + shape.shared_bytes;
  for (size_t i = 0; i < kGuardBytes; ++i) end[i] = reinterpret_cast<const unsigned char*>(&kGuardPattern)[i % 2];
  bool going = true;
  for (unsigned z = 0; z < shape.grid.z && going; ++z) {
    for (unsigned y = 0; y < shape.grid.y && going; ++y) {
      for (unsigned x = 0; x < shape.grid.x && going; ++x) {
        blockIdx = {x, y, z};
        going = run_block(shape, call);
      }
    }
  }
  check_shared_guard(shape);
}

}  // namespace

void* dynamic_shared() { return shared_memory().base; }
size_t dynamic_shared_bytes() { return shared_memory().bytes; }

void submit_kernel(const LaunchShape& shape, std::unique_ptr<KernelCall> call, const void* const* pointers, size_t count) {
  cudaError_t error = admit("kernel launch");
  CUstream_st* stream = error == cudaSuccess ? find_stream("kernel launch", shape.stream) : nullptr;
  if (error == cudaSuccess && (stream == nullptr || stream->device != current_device_index())) {
    error = cudaErrorInvalidResourceHandle;
  }
  if (error == cudaSuccess) error = check_shape(shape);
  if (error != cudaSuccess) {
    keep_error(error);
    return;
  }
  check_pointers(pointers, count);
  submit(*stream, device_bit(stream->device), make_task([shape, call = std::move(call)] { run_grid(shape, *call); }));
}

}  // namespace cuda_host
