// Allocation, copies and fills, as calls.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cuda_runtime.h"
#include "runtime.h"

using cuda_host::call;
using cuda_host::Hold;
using cuda_host::locate;
using cuda_host::Location;
using cuda_host::Place;
using cuda_host::runtime;

namespace {

// A rectangle of rows; plain copies have one row.
struct Copy {
  char* to;
  size_t to_pitch;
  const char* from;
  size_t from_pitch;
  size_t width, height;

  size_t extent(size_t pitch) const { return (height - 1) * pitch + width; }
  void run() const {
    for (size_t row = 0; row < height; ++row) std::memmove(to + row * to_pitch, from + row * from_pitch, width);
  }
};

bool kind_allows(cudaMemcpyKind kind, Place to, Place from) {
  const bool to_device = to == Place::kDevice, from_device = from == Place::kDevice;
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    case cudaMemcpyDefault:
      return true;
  }
  return false;
}

cuda_host::DeviceMask devices_of(const Location& location) {
  return location.place == Place::kDevice ? cuda_host::device_bit(location.device) : 0;
}

// Whether two rectangles share a byte; with different pitches only rows of one piece are compared.
bool overlap(const Copy& copy) {
  const auto distance = std::abs(copy.to - copy.from);
  const auto width = static_cast<std::ptrdiff_t>(copy.width);
  if (copy.height == 1) return distance < width;
  const auto pitch = static_cast<std::ptrdiff_t>(copy.to_pitch);
  if (copy.to_pitch != copy.from_pitch || distance / pitch >= static_cast<std::ptrdiff_t>(copy.height)) return false;
  return distance % pitch < width ||
         (pitch - distance % pitch < width && distance / pitch + 1 < static_cast<std::ptrdiff_t>(copy.height));
}

// must_wait: the synchronous form, which returns when the copy is complete unless it stays on the device.
cudaError_t copy_in_order(const char* function, Copy copy, cudaMemcpyKind kind, cudaStream_t handle, bool must_wait) {
  CUstream_st* stream = cuda_host::find_stream(function, handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (copy.to == nullptr || copy.from == nullptr) return cudaErrorInvalidValue;
  const Location to = locate(function, "destination", copy.to, copy.extent(copy.to_pitch));
  const Location from = locate(function, "source", copy.from, copy.extent(copy.from_pitch));
  if (to.place == Place::kInvalid || from.place == Place::kInvalid) return cudaErrorInvalidValue;
  if (!kind_allows(kind, to.place, from.place)) return cudaErrorInvalidValue;
  if (overlap(copy)) {
    cuda_host::report(std::string(function) + ": source and destination overlap");
    return cudaErrorInvalidValue;
  }
  const bool pageable_to = to.place == Place::kPageable;
  const bool within_device = to.place == Place::kDevice && from.place == Place::kDevice;
  std::unique_ptr<cuda_host::Task> task;
  if (from.place == Place::kPageable && !must_wait) {  // staged now: the caller may change the source after the call
    std::vector<char> staged(copy.width * copy.height);
    for (size_t row = 0; row < copy.height; ++row) {
      std::memcpy(staged.data() + row * copy.width, copy.from + row * copy.from_pitch, copy.width);
    }
    task = cuda_host::make_task([copy, staged = std::move(staged)]() mutable {
      copy.from = staged.data();
      copy.from_pitch = copy.width;
      copy.run();
    });
  } else {
    task = cuda_host::make_task([copy] { copy.run(); });
  }
  auto ticket = cuda_host::submit(*stream, devices_of(to) | devices_of(from), std::move(task));
  if (pageable_to || (must_wait && !within_device)) ticket->wait();
  return cudaSuccess;
}

cudaError_t set_in_order(const char* function, void* pointer, int value, size_t bytes, cudaStream_t handle) {
  CUstream_st* stream = cuda_host::find_stream(function, handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (pointer == nullptr) return cudaErrorInvalidValue;
  const Location place = locate(function, "destination", pointer, bytes);
  if (place.place == Place::kInvalid || place.place == Place::kPageable) return cudaErrorInvalidValue;
  cuda_host::submit(*stream, devices_of(place), cuda_host::make_task([=] { std::memset(pointer, value, bytes); }));
  return cudaSuccess;
}

cudaError_t free_from(const char* function, cuda_host::Arena& arena, void* pointer) {
  std::string problem;
  {
    Hold hold(runtime().lock);
    if (arena.free(pointer)) return cudaSuccess;
    problem = arena.contains(pointer) ? arena.describe(pointer) : "memory that was not allocated there";
  }
  cuda_host::report(std::string(function) + ": " + cuda_host::hex(pointer) +
                    " is not the start of a live allocation: " + problem);
  return cudaErrorInvalidValue;
}

// Frees and allocations of one memory are ordered, as by any allocator.
void order_after_frees(cuda_host::Arena& arena) { cuda_host::happens_after(&arena); }
void order_before_allocations(cuda_host::Arena& arena) { cuda_host::happens_before(&arena); }

cudaError_t allocate_pinned(void** pointer, size_t bytes) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  order_after_frees(*runtime().pinned);
  Hold hold(runtime().lock);
  *pointer = runtime().pinned->allocate(bytes);
  return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call("cudaMalloc", [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    cuda_host::Arena& memory = cuda_host::current_device().memory;
    order_after_frees(memory);
    Hold hold(runtime().lock);
    *pointer = memory.allocate(bytes);
    return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}

cudaError_t cudaFree(void* pointer) {
  return call("cudaFree", [&] {
    if (pointer == nullptr) return cudaSuccess;
    int device = cuda_host::current_device_index();
    for (auto& other : runtime().devices) {
      if (other->memory.contains(pointer)) device = other->index;
    }
    cuda_host::wait_for_device(device);
    cuda_host::Arena& memory = runtime().devices[device]->memory;
    order_before_allocations(memory);
    const cudaError_t error = free_from("cudaFree", memory, pointer);
    cuda_host::check_guards(device);
    return error;
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return call("cudaMallocHost", [&] { return allocate_pinned(pointer, bytes); });
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  return call("cudaHostAlloc", [&] {
    constexpr unsigned kKnown = cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
    if ((flags & ~kKnown) != 0) return cudaErrorInvalidValue;
    return allocate_pinned(pointer, bytes);
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return call("cudaFreeHost", [&] {
    if (pointer == nullptr) return cudaSuccess;
    for (auto& device : runtime().devices) cuda_host::wait_for_device(device->index);
    order_before_allocations(*runtime().pinned);
    return free_from("cudaFreeHost", *runtime().pinned, pointer);
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return call("cudaMemGetInfo", [&] {
    if (free == nullptr || total == nullptr) return cudaErrorInvalidValue;
    Hold hold(runtime().lock);
    const cuda_host::Arena& memory = cuda_host::current_device().memory;
    *total = memory.capacity();
    *free = memory.capacity() - memory.live_bytes();
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return call("cudaPointerGetAttributes", [&] {
    if (attributes == nullptr) return cudaErrorInvalidValue;
    const Location location = locate("cudaPointerGetAttributes", "pointer", pointer, 0);
    auto* address = const_cast<void*>(pointer);
    switch (location.place) {
      case Place::kDevice:
        *attributes = {cudaMemoryTypeDevice, location.device, address, nullptr};
        break;
      case Place::kPinned:
        *attributes = {cudaMemoryTypeHost, cuda_host::current_device_index(), address, address};
        break;
      case Place::kPageable:
        *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, address};
        break;
      case Place::kInvalid:
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return call("cudaMemcpy", [&] {
    const Copy copy{static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, bytes, 1};
    return copy_in_order("cudaMemcpy", copy, kind, nullptr, true);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return call("cudaMemcpyAsync", [&] {
    const Copy copy{static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, bytes, 1};
    return copy_in_order("cudaMemcpyAsync", copy, kind, stream, false);
  });
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return call("cudaMemcpy2DAsync", [&] {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
    const Copy copy{static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, width, height};
    return copy_in_order("cudaMemcpy2DAsync", copy, kind, stream, false);
  });
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return call("cudaMemset", [&] { return set_in_order("cudaMemset", pointer, value, bytes, nullptr); });
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  return call("cudaMemsetAsync", [&] { return set_in_order("cudaMemsetAsync", pointer, value, bytes, stream); });
}
