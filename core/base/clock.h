// Time that passes on this host; it never goes back. How long work of a device takes is its queue's to say
// (core/device/stopwatch.h).
#pragma once

#include <chrono>

namespace muonp::core {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace muonp::core
