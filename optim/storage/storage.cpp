#include "optim/storage/storage.h"

#include <algorithm>

#include "core/device/offload.h"

namespace muonp::optim {

std::int64_t state_blocks(std::int64_t first, std::int64_t count) {
  return count == 0 ? 0 : (first + count - 1) / kStateBlock - first / kStateBlock + 1;
}

std::int64_t stored_bytes(const Storage& storage, std::int64_t first, std::int64_t count) {
  if (!storage.narrow()) return 4 * count;
  if (storage.dtype == StateDtype::bfloat16) return 2 * count;
  return count + 4 * state_blocks(first, count);
}

std::int64_t stored_bytes(std::span<const Storage> states, std::int64_t first, std::int64_t count) {
  std::int64_t bytes = 0;
  for (const Storage& s : states) bytes += stored_bytes(s, first, count);
  return bytes;
}

double stored_bytes_per_element(const Storage& storage) {
  return static_cast<double>(stored_bytes(storage, 0, kStateBlock)) / static_cast<double>(kStateBlock);
}

std::int64_t state_piece_end(std::int64_t first, std::int64_t count, std::int64_t begin) {
  const std::int64_t next = ((first + begin) / core::kOffloadPiece + 1) * core::kOffloadPiece;
  return std::min(count, next - first);
}

std::int64_t state_workspace_bytes(std::int64_t tensors, std::span<const Storage> states, std::int64_t first,
                                   std::int64_t count, bool in_host_memory) {
  const std::int64_t narrow = std::ranges::count_if(states, &Storage::narrow);
  const std::int64_t others = in_host_memory ? tensors + std::ssize(states) - narrow : 0;
  if (narrow == 0) return 4 * others * std::min(core::kOffloadPiece, count);
  std::int64_t most = 0;
  for (std::int64_t begin = 0, end = 0; begin < count; begin = end) {
    end = state_piece_end(first, count, begin);
    std::int64_t bytes = 4 * (others + narrow) * (end - begin);
    for (const Storage& s : states)
      if (in_host_memory && s.narrow()) bytes += stored_bytes(s, first + begin, end - begin);
    most = std::max(most, bytes);
  }
  return most;
}

}  // namespace muonp::optim
