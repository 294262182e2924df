// Fast non-cryptographic hashes (XXH3): agreement checks between ranks, hashes of weights. The value depends
// on the bytes and the seed only, on every machine.
#pragma once

#include <cstdint>

namespace muonp::core {

// bytes ≥ 0; data may be null when bytes is 0. Chain hashes by passing one as the seed of the next.
std::uint64_t hash_bytes(const void* data, std::int64_t bytes, std::uint64_t seed = 0);

}  // namespace muonp::core
