// Kernel launches. As with <<<>>>, arguments are converted to the kernel's parameters and copied at the call,
// nothing is returned, and what is wrong is told by cudaGetLastError:
//   cudaErrorInvalidConfiguration  a zero dimension; a block above 1024 threads or 1024 x 1024 x 64; a grid
//   above
//                                  2^31-1 x 65535 x 65535
//   cudaErrorInvalidValue          dynamic shared memory above the kernel's limit (48 KiB until raised)
//   cudaErrorInvalidResourceHandle a stream of another device than the current one
// Reported besides: a pointer argument that is neither null nor inside a live allocation of device or pinned
// memory.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime.h"

namespace cuda_host {

struct LaunchShape {
  const void* kernel;
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  cudaStream_t stream;
  bool has_barriers;
};

// One thread's run of a kernel with the arguments of one launch.
class KernelCall {
 public:
  virtual ~KernelCall() = default;
  virtual void operator()() const = 0;
};

void submit_kernel(const LaunchShape& shape, std::unique_ptr<KernelCall> call, const void* const* pointers, size_t count);

namespace detail {

template <class... Parameters>
class StoredCall final : public KernelCall {
 public:
  using Kernel = void (*)(Parameters...);
  template <class... Arguments>
  explicit StoredCall(Kernel kernel, Arguments&&... arguments)
      : kernel_(kernel), arguments_(std::forward<Arguments>(arguments)...) {}
  void operator()() const override { std::apply(kernel_, arguments_); }

 private:
  Kernel kernel_;
  std::tuple<Parameters...> arguments_;
};

constexpr size_t parameter_bytes(std::initializer_list<std::pair<size_t, size_t>> sizes_and_alignments) {
  size_t bytes = 0;
  for (auto [size, alignment] : sizes_and_alignments) bytes = (bytes + alignment - 1) / alignment * alignment + size;
  return bytes;
}

template <class T>
const void* device_pointer(const T& argument) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
    return static_cast<const void*>(argument);
  } else {
    return nullptr;
  }
}

template <class... Parameters, class... Arguments>
void launch(bool has_barriers, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "one argument for each parameter of the kernel");
  static_assert((!std::is_reference_v<Parameters> && ...), "a kernel takes its parameters by value");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "arguments are copied to the device as bytes");
  static_assert(parameter_bytes({{size_t{0}, size_t{1}}, {sizeof(Parameters), alignof(Parameters)}...}) <= 4096,
                "kernel parameters are limited to 4096 bytes");
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  std::apply(
      [&](const Parameters&... parameters) {
        const std::array<const void*, sizeof...(Parameters) + 1> pointers{device_pointer(parameters)..., nullptr};
        submit_kernel({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, has_barriers},
                      std::make_unique<StoredCall<Parameters...>>(kernel, parameters...), pointers.data(),
                      sizeof...(Parameters));
      },
      values);
}

}  // namespace detail

// Runs the threads of a block as fibers, so that they can meet at barriers.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Arguments&&... arguments) {
  detail::launch(true, kernel, grid, block, shared_bytes, stream, std::forward<Arguments>(arguments)...);
}

// For kernels promised to be barrier-free: their threads run as a plain loop, and a barrier is reported.
template <class... Parameters, class... Arguments>
void launch_flat(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                 Arguments&&... arguments) {
  detail::launch(false, kernel, grid, block, shared_bytes, stream, std::forward<Arguments>(arguments)...);
}

}  // namespace cuda_host
