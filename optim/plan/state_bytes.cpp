#include "optim/plan/state_bytes.h"

namespace muonp::optim {

std::int64_t stored_bytes(const GroupConfig& group, std::int64_t first, std::int64_t count) {
  std::int64_t bytes = 0;
  for (const Storage& storage : group.storages()) bytes += stored_bytes(storage, first, count);
  return bytes;
}

std::int64_t state_workspace_bytes(const GroupConfig& group, std::int64_t masters, std::int64_t first, std::int64_t count,
                                   bool in_host_memory) {
  return state_workspace_bytes(masters, group.storages(), first, count, in_host_memory);
}

double moved_state_bytes(const GroupConfig& group) {
  double bytes = 0;
  for (const Storage& storage : group.storages())
    bytes += 8 + (storage.narrow() ? 8 + 2 * stored_bytes_per_element(storage) : 0);
  return bytes;
}

}  // namespace muonp::optim
