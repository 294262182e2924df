// CRC-32C (Castagnoli; RFC 3720, section 12.1), as TensorBoard's record files have it.
#pragma once

#include <cstdint>
#include <string_view>

namespace muonp::launch {

std::uint32_t crc32c(std::string_view bytes);

// Rotated and shifted, so that the checksum of bytes that hold checksums is a good one: tensorflow/core/lib/hash/crc32c.h.
std::uint32_t masked_crc32c(std::string_view bytes);

}  // namespace muonp::launch
