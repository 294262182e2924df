// What the states of rules take in the form in which they are kept (optim/storage/storage.h).
#pragma once

#include <cstdint>

#include "optim/plan/config.h"

namespace muonp::optim {

// Of the group's states with Home::shard, of elements [first, first + count) of a parameter.
std::int64_t stored_bytes(const GroupConfig& group, std::int64_t first, std::int64_t count);

// Most bytes that computing on them takes on the device at once; masters: float32 tensors that are computed on with them.
std::int64_t state_workspace_bytes(const GroupConfig& group, std::int64_t masters, std::int64_t first, std::int64_t count,
                                   bool in_host_memory);

// Bytes an element that a step of the rule moves in memory for them: reads and writes of what is float32; of what is
// narrow those of the codec as well, the reading of its result and of the largest magnitude included.
double moved_state_bytes(const GroupConfig& group);

}  // namespace muonp::optim
