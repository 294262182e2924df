// Owners of the runtime's handles. Destructors ignore failures: at the end of the process the runtime may be gone before
// the last of them.
#pragma once

#include <utility>

#include "core/device/cuda/error.h"

namespace muonp::core::cuda {

template <class T, auto destroy>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    if (handle_) static_cast<void>(destroy(handle_));
  }
  T get() const { return handle_; }

 private:
  T handle_ = nullptr;
};

using Stream = Handle<cudaStream_t, &cudaStreamDestroy>;
using Event = Handle<cudaEvent_t, &cudaEventDestroy>;
using Blas = Handle<cublasHandle_t, &cublasDestroy>;

// Ordered with other streams by events only, never through the legacy default stream.
inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  MUONP_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

// Without cudaEventDisableTiming as `flags`, its time can be asked for.
inline Event make_event(unsigned flags = cudaEventDisableTiming) {
  cudaEvent_t event = nullptr;
  MUONP_CUDA(cudaEventCreateWithFlags(&event, flags));
  return Event(event);
}

inline Blas make_blas() {
  cublasHandle_t handle = nullptr;
  MUONP_CUDA(cublasCreate(&handle));
  return Blas(handle);
}

}  // namespace muonp::core::cuda
