// The one place where kernels are launched: through the compiler's <<<>>>, or, in the tests that run this code without a
// GPU, through the stand-in for the runtime (tests/cuda_host).
#pragma once

#include <cstddef>

#include "core/device/cuda/error.h"
#ifdef MUONP_CUDA_HOST
#include "cuda_host_launch.h"
#endif

// Shared memory of a block. The stand-in runs one block at a time on a thread.
#ifdef MUONP_CUDA_HOST
#define MUONP_SHARED static thread_local
#else
#define MUONP_SHARED __shared__
#endif

// T* name: shared memory of as many bytes as the launch says, from a multiple of 16 on.
#ifdef MUONP_CUDA_HOST
#define MUONP_DYNAMIC_SHARED(T, name) auto* const name = static_cast<T*>(cuda_host::dynamic_shared())
#else
#define MUONP_DYNAMIC_SHARED(T, name)                       \
  extern __shared__ __align__(16) unsigned char dynamic_[]; \
  auto* const name = reinterpret_cast<T*>(dynamic_)
#endif

// Before a loop over arrays that are to stay in registers: an array that is indexed at run time lies in local memory.
#ifdef __CUDACC__
#define MUONP_UNROLL _Pragma("unroll")
#else
#define MUONP_UNROLL
#endif

namespace muonp::core::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;  // of a warp, for its collectives

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            const A&... arguments) {
#ifdef MUONP_CUDA_HOST
  cuda_host::launch(kernel, grid, block, shared_bytes, stream, arguments...);
#else
  // clang-format off: it takes >>> apart.
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  // clang-format on
#endif
  check(cudaGetLastError(), "kernel launch");
}

// For kernels without barriers and shuffles, whose threads the stand-in may run one after the other.
template <class... P, class... A>
void launch_flat(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, const A&... arguments) {
#ifdef MUONP_CUDA_HOST
  cuda_host::launch_flat(kernel, grid, block, std::size_t{0}, stream, arguments...);
  check(cudaGetLastError(), "kernel launch");
#else
  launch(kernel, grid, block, 0, stream, arguments...);
#endif
}

}  // namespace muonp::core::cuda
