// The time of day, for people.
#pragma once

#include <string>

namespace muonp::launch {

// "2026-03-01 14:05:09 UTC": now.
std::string time_text();

}  // namespace muonp::launch
