// The compressors, for make_compressor(), and what they share.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>

#include "dist/compression/compressor.h"

namespace muonp::dist::compression {

std::unique_ptr<Compressor> make_identity(std::int64_t rows, std::int64_t cols);
std::unique_ptr<Compressor> make_natural(std::int64_t rows, std::int64_t cols);
std::unique_ptr<Compressor> make_sign(std::int64_t rows, std::int64_t cols);
std::unique_ptr<Compressor> make_integer(std::int64_t rows, std::int64_t cols, int bits);
std::unique_ptr<Compressor> make_top_k(std::int64_t rows, std::int64_t cols, double fraction, bool natural);
std::unique_ptr<Compressor> make_low_rank(std::int64_t rows, std::int64_t cols, std::int64_t rank);

inline constexpr std::int64_t kBlock = 256;  // elements that share a scale

// A float32 at any address of a message.
MUONP_HD inline float load_float(const std::uint8_t* from) {
  std::uint32_t bits = 0;
  for (int i = 3; i >= 0; --i) bits = bits << 8 | from[i];
  return std::bit_cast<float>(bits);
}
MUONP_HD inline void store_float(std::uint8_t* to, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (int i = 0; i < 4; ++i) to[i] = static_cast<std::uint8_t>(bits >> (8 * i));
}

// Rounding to the nearest power of two, ties up, in one byte beside the largest power `top` of a message: 0 for zero, else
// the sign in bit 7 and 1 + log2(top / |value|) below it. Values under top · 2^−126 become zero.
struct NaturalCode {
  float top;  // a power of two, or 0 where all is zero

  // Exponent of the nearest power of two, at most 127; every float but zero is normal as a double.
  MUONP_HD static int exponent(float x) {
    const std::uint64_t bits = std::bit_cast<std::uint64_t>(static_cast<double>(x)) & ~(1ull << 63);
    const int e = static_cast<int>((bits + (1ull << 51)) >> 52) - 1023;
    return e < 127 ? e : 127;
  }
  MUONP_HD static float top_of(float largest) {
    if (largest == 0) return 0;
    return static_cast<float>(std::bit_cast<double>(static_cast<std::uint64_t>(exponent(largest) + 1023) << 52));
  }
  MUONP_HD std::uint8_t encode(float x) const {
    if (x == 0) return 0;
    const int below = exponent(top) - exponent(x);
    if (below > 126) return 0;
    return static_cast<std::uint8_t>((x < 0 ? 0x80 : 0) | (below + 1));
  }
  MUONP_HD float decode(std::uint8_t code) const {
    if (code == 0) return 0;
    const auto scale = std::bit_cast<float>(static_cast<std::uint32_t>(128 - (code & 0x7f)) << 23);  // 2^−below
    return code & 0x80 ? -top * scale : top * scale;
  }
};

// max |x|, waiting for the queue.
float largest_magnitude(core::Queue& queue, const core::Tensor& x);

}  // namespace muonp::dist::compression
