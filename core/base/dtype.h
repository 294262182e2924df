// Element types of tensors. bfloat16 and float16 are storage types: arithmetic is done in float32, and a GPU converts by its
// own instructions, to the same values. tf32 is float32 in memory; matrix products read 10 bits of its mantissa (tensor
// cores of GPUs). uint8 is bytes on their way to another rank.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#ifdef __CUDACC__
#define MUONP_HD __host__ __device__
#else
#define MUONP_HD
#endif

namespace muonp::core {

enum class Dtype : std::uint8_t { float32, bfloat16, float16, int32, tf32, uint8 };

std::int64_t size_of(Dtype dtype);
std::string_view name_of(Dtype dtype);
Dtype parse_dtype(std::string_view name);  // Error lists the valid names

// The upper half of a float32, rounded to nearest even; NaN stays NaN.
struct bfloat16 {
  std::uint16_t bits = 0;
  bfloat16() = default;
  MUONP_HD explicit bfloat16(float value) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    const auto u = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>((nan ? (u | 0x400000u) : rounded) >> 16);
#endif
  }
  MUONP_HD operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

// IEEE binary16, rounded to nearest even, with subnormals.
struct float16 {
  std::uint16_t bits = 0;
  float16() = default;
  MUONP_HD explicit float16(float value);
  MUONP_HD operator float() const;
};

MUONP_HD inline float16::float16(float value) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    bits = static_cast<std::uint16_t>(sign | 0x7e00u);
  } else if (magnitude >= 0x477ff000u) {  // rounds past the largest finite value, 65504
    bits = static_cast<std::uint16_t>(sign | 0x7c00u);
  } else if (magnitude < 0x38800000u) {  // subnormal: let the float32 adder do the rounding
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    bits = static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  } else {
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u;
    bits = static_cast<std::uint16_t>(sign | (rounded >> 13));
  }
#endif
}

MUONP_HD inline float16::operator float() const {
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
#endif
}

template <class T>
inline constexpr Dtype dtype_of = [] {
  static_assert(sizeof(T) == 0, "not a tensor element type");
  return Dtype::float32;
}();
template <>
inline constexpr Dtype dtype_of<float> = Dtype::float32;
template <>
inline constexpr Dtype dtype_of<bfloat16> = Dtype::bfloat16;
template <>
inline constexpr Dtype dtype_of<float16> = Dtype::float16;
template <>
inline constexpr Dtype dtype_of<std::int32_t> = Dtype::int32;
template <>
inline constexpr Dtype dtype_of<std::uint8_t> = Dtype::uint8;

}  // namespace muonp::core
