// Sums, maxima and minima of NCCL's types. As in the real library, maxima and minima of floating-point numbers prefer a
// number to a NaN.
#include <bit>
#include <cmath>
#include <type_traits>

#include "gemm.h"
#include "nccl_message.h"

namespace cuda_host::nccl {
namespace {

template <class T>
T combine(ncclRedOp_t reduction, T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return reduction == ncclSum ? a + b : reduction == ncclMax ? std::fmax(a, b) : std::fmin(a, b);
  } else {
    using Unsigned = std::make_unsigned_t<T>;
    if (reduction == ncclSum) return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    return reduction == ncclMax ? (a > b ? a : b) : (a < b ? a : b);
  }
}

template <class T>
void reduce_plain(ncclRedOp_t reduction, void* to, const void* from, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    T a, b;  // messages are not aligned
    std::memcpy(&a, static_cast<const char*>(to) + i * sizeof(T), sizeof(T));
    std::memcpy(&b, static_cast<const char*>(from) + i * sizeof(T), sizeof(T));
    a = combine(reduction, a, b);
    std::memcpy(static_cast<char*>(to) + i * sizeof(T), &a, sizeof(T));
  }
}

void reduce_narrow(cudaDataType type, ncclRedOp_t reduction, void* to, const void* from, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float a = load_element(to, type, static_cast<int64_t>(i));
    const float b = load_element(from, type, static_cast<int64_t>(i));
    store_element(to, type, static_cast<int64_t>(i), combine(reduction, a, b));
  }
}

}  // namespace

bool can_reduce(ncclDataType_t type, ncclRedOp_t reduction) {
  const bool known_type =
      type == ncclInt32 || type == ncclFloat16 || type == ncclFloat32 || type == ncclFloat64 || type == ncclBfloat16;
  return known_type && (reduction == ncclSum || reduction == ncclMax || reduction == ncclMin);
}

void reduce(ncclDataType_t type, ncclRedOp_t reduction, void* to, const void* from, size_t count) {
  switch (type) {
    case ncclInt32:
      return reduce_plain<int32_t>(reduction, to, from, count);
    case ncclFloat32:
      return reduce_plain<float>(reduction, to, from, count);
    case ncclFloat64:
      return reduce_plain<double>(reduction, to, from, count);
    case ncclFloat16:
      return reduce_narrow(CUDA_R_16F, reduction, to, from, count);
    case ncclBfloat16:
      return reduce_narrow(CUDA_R_16BF, reduction, to, from, count);
    default:
      return;
  }
}

}  // namespace cuda_host::nccl
