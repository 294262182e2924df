// Counter-based random numbers (Philox4x32-10, Salmon et al., SC'11): the value depends on (seed, stream, index)
// only, never on the order of calls, the number of threads or the number of ranks.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/base/dtype.h"

namespace muonp::core {

struct Random4 {
  std::uint32_t v[4];
};

// key: seed. counter: (stream, index), each 64 bits.
MUONP_HD inline Random4 philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  Random4 x{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), static_cast<std::uint32_t>(stream),
             static_cast<std::uint32_t>(stream >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = 0xD2511F53ull * x.v[0], p1 = 0xCD9E8D57ull * x.v[2];
    x = {{static_cast<std::uint32_t>(p1 >> 32) ^ x.v[1] ^ k0, static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ x.v[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return x;
}

// Uniform on (0, 1), never 0 or 1: 23 bits and a half, which a float holds exactly.
MUONP_HD inline float uniform_from(std::uint32_t bits) { return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f; }

MUONP_HD inline float uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return uniform_from(philox(seed, stream, index).v[0]);
}

// Standard normal by Box-Muller.
MUONP_HD inline float normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const Random4 r = philox(seed, stream, index);
  return sqrtf(-2.0f * logf(uniform_from(r.v[0]))) * cosf(6.28318530717958647692f * uniform_from(r.v[1]));
}

// An unbiased-enough integer in [0, bound): 64 random bits, bias under bound / 2^64.
MUONP_HD inline std::uint64_t random_below(std::uint64_t seed, std::uint64_t stream, std::uint64_t index,
                                           std::uint64_t bound) {
  const Random4 r = philox(seed, stream, index);
  const std::uint64_t bits = (static_cast<std::uint64_t>(r.v[0]) << 32) | r.v[1];
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits) * bound) >> 64);
}

}  // namespace muonp::core
