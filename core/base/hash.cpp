#include "core/base/hash.h"

#include <xxhash.h>

#include "core/base/error.h"

namespace muonp::core {

std::uint64_t hash_bytes(const void* data, std::int64_t bytes, std::uint64_t seed) {
  MUONP_ASSERT(bytes >= 0 && (data != nullptr || bytes == 0), "{} bytes to hash", bytes);
  return XXH3_64bits_withSeed(data, static_cast<std::size_t>(bytes), seed);
}

}  // namespace muonp::core
