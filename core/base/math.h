// Elementary functions for kernels, in float32, as plain arithmetic: a compiler vectorises them inside a loop
// over elements, on the host and for CUDA. Errors are against the exact value in units of the last place of
// the result. Taylor series suffice after the range reductions below, so every coefficient is a fraction that
// can be read.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

#include "core/base/dtype.h"
#include "core/base/error.h"

namespace muonp::core {

// The same number; InternalError where an int cannot hold it.
int to_int(std::integral auto number) {
  MUONP_ASSERT(std::in_range<int>(number), "{} does not fit an int", number);
  return static_cast<int>(number);
}

}  // namespace muonp::core

namespace muonp::core::math {

// Products with rounding once. Written as calls, they also keep the compiler from re-associating a range
// reduction.
MUONP_HD inline float fused(float a, float b, float c) { return fmaf(a, b, c); }

struct Reduced {  // exp(x) = 2^n (1 + p), |p| < 0.42
  std::int32_t n;
  float p;
};

// x in [-104, 89]. p carries no rounding error of the leading 1, so that it is also expm1(x) where n = 0.
MUONP_HD inline Reduced reduce_exp(float x) {
  const float n = rintf(x * 1.44269504f);
  float r = fused(n, -0x1.62ep-1f, x);  // ln 2, upper 11 bits: n·hi is exact
  r = fused(n, -0x1.0bfbe8p-15f, r);    // ln 2, the rest
  float q = 1.0f / 5040;                // (exp(r) − 1 − r) / r², |r| ≤ ln 2 / 2; the next term is below 6e-9
  q = fused(q, r, 1.0f / 720);
  q = fused(q, r, 1.0f / 120);
  q = fused(q, r, 1.0f / 24);
  q = fused(q, r, 1.0f / 6);
  q = fused(q, r, 0.5f);
  return {static_cast<std::int32_t>(n), fused(q * r, r, r)};
}

// At most 2 ulp; on a GPU, whose own instruction is several times faster than the polynomial, 2 + |x| ulp. Results below
// 2^-126 are 0; above the largest float infinity; NaN stays NaN.
MUONP_HD inline float exp(float x) {
#ifdef __CUDA_ARCH__
  return x < -87.3365402f ? 0.0f : __expf(x);
#else
  constexpr float kHighest = 88.7228317f, kLowest = -87.3365402f;
  float inside = x < kHighest ? x : kHighest;  // NaN becomes kHighest here and is put back below
  inside = inside > kLowest ? inside : kLowest;
  const Reduced e = reduce_exp(inside);
  const auto bits = std::bit_cast<std::uint32_t>(1.0f + e.p) + (static_cast<std::uint32_t>(e.n) << 23);
  float result = std::bit_cast<float>(bits);
  result = x > kHighest ? std::numeric_limits<float>::infinity() : result;
  result = x < kLowest ? 0.0f : result;
  return x != x ? x : result;
#endif
}

// 1 / (1 + exp(-x)), at most 4 ulp; 0 below -88.7.
MUONP_HD inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// At most 4 ulp, exact sign, ±1 at the ends.
MUONP_HD inline float tanh(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float doubled = magnitude < 10.0f ? 2.0f * magnitude : 20.0f;
  const Reduced e = reduce_exp(doubled);
  const float power = std::bit_cast<float>(static_cast<std::uint32_t>(e.n + 127) << 23);
  const float expm1 = fused(power, e.p, power - 1.0f);
  const float result = expm1 / (expm1 + 2.0f);
  const float with_sign = x < 0.0f ? -result : result;
  return x != x ? x : with_sign;
}

// Natural logarithm, at most 3 ulp. 0 gives -infinity, negative numbers NaN; infinity and NaN stay.
MUONP_HD inline float log(float x) {
  constexpr float kSmallestNormal = 0x1p-126f;
  const bool subnormal = x < kSmallestNormal;
  const float normal = subnormal ? x * 0x1p23f : x;
  const auto bits = std::bit_cast<std::uint32_t>(normal);
  const std::uint32_t shifted = bits - 0x3f3504f3u;  // mantissa in [√½, √2): 0x3f3504f3 is √½
  const auto exponent = static_cast<std::int32_t>(shifted) >> 23;
  const float n = static_cast<float>(exponent - (subnormal ? 23 : 0));
  const float m = std::bit_cast<float>((shifted & 0x007fffffu) + 0x3f3504f3u);
  const float f = m - 1.0f;
  const float s = f / (2.0f + f);  // log m = 2 artanh s, |s| ≤ 0.172
  const float z = s * s;
  float q = 1.0f / 11;
  q = fused(q, z, 1.0f / 9);
  q = fused(q, z, 1.0f / 7);
  q = fused(q, z, 1.0f / 5);
  q = fused(q, z, 1.0f / 3);
  // 2s = f − s·f exactly; the small terms first.
  const float half_square = s * f;
  const float tail = fused(2.0f * s * z, q, fused(n, 0x1.0bfbe8p-15f, 0.0f)) - half_square;
  float result = fused(n, 0x1.62ep-1f, f + tail);
  result = x == 0.0f ? -std::numeric_limits<float>::infinity() : result;
  result = x < 0.0f ? std::numeric_limits<float>::quiet_NaN() : result;
  const bool keep = x != x || x == std::numeric_limits<float>::infinity();
  return keep ? x : result;
}

struct SinCos {
  float sin, cos;
};

// Sine and cosine of 2π·u for |u| ≤ 2: absolute error at most 2^-22.
MUONP_HD inline SinCos sincos_turns(float u) {
  const float quarters = rintf(4.0f * u);
  const float a = fused(quarters, -0.25f, u) * 6.28318531f;  // |a| ≤ π/4
  const float z = a * a;
  float s = 1.0f / 362880;
  s = fused(s, z, -1.0f / 5040);
  s = fused(s, z, 1.0f / 120);
  s = fused(s, z, -1.0f / 6);
  s = fused(s * z, a, a);
  float c = -1.0f / 3628800;
  c = fused(c, z, 1.0f / 40320);
  c = fused(c, z, -1.0f / 720);
  c = fused(c, z, 1.0f / 24);
  c = fused(c, z, -0.5f);
  c = fused(c, z, 1.0f);
  const auto quadrant = static_cast<std::uint32_t>(static_cast<std::int32_t>(quarters));
  const bool swap = quadrant & 1u;
  const float sine = swap ? c : s, cosine = swap ? s : c;
  return {quadrant & 2u ? -sine : sine, (quadrant + 1u) & 2u ? -cosine : cosine};
}

}  // namespace muonp::core::math
