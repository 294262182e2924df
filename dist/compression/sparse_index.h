// k ascending indices below n in about k·(2 + log2(n/k)) bits: Elias-Fano coding (Elias, JACM 1974). With l = ⌊log2(n/k)⌋,
// the l low bits of each index stand one behind the other; of the rest, index i sets bit i + (index >> l) of a field of
// k + ((n − 1) >> l) + 1 bits. Bits are counted from the lowest of the first byte. Every byte can be made, and read, apart
// from the others.
#pragma once

#include <cstdint>

#include "core/device/tensor.h"

namespace muonp::dist::compression {

class SparseIndex {
 public:
  SparseIndex(std::int64_t n, std::int64_t k);  // 1 ≤ k ≤ n < 2³¹
  std::int64_t low_bytes() const { return (k_ * low_bits_ + 7) / 8; }
  std::int64_t high_bytes() const { return (k_ + ((n_ - 1) >> low_bits_) + 1 + 7) / 8; }
  std::int64_t bytes() const { return low_bytes() + high_bytes(); }

  // indices: int32 [k], ascending; wire: bytes() of device memory.
  void encode(core::Queue& queue, const core::Tensor& indices, std::uint8_t* wire) const;
  void decode(core::Device& device, const std::uint8_t* wire, const core::Tensor& indices) const;
  std::int64_t decode_workspace_bytes() const { return 4 * chunks(); }

 private:
  static constexpr std::int64_t kChunk = 64;  // bytes of the high field that are read by one thread
  std::int64_t chunks() const { return (high_bytes() + kChunk - 1) / kChunk; }
  std::int64_t n_, k_, low_bits_ = 0;
};

}  // namespace muonp::dist::compression
