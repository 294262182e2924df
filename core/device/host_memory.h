// Memory of the host that is not taken yet.
#pragma once

#include <cstdint>
#include <string>

namespace muonp::core {

// Bytes that this process can take before the host, or a control group that it is in, has no more. Copies of files that the
// system would drop count as free. The largest number where the system does not say. `root`: before /proc and /sys (tests).
std::int64_t free_host_memory(const std::string& root = "");

}  // namespace muonp::core
