#include "launch/report/time_text.h"

#include <fmt/chrono.h>

#include <ctime>

namespace muonp::launch {

std::string time_text() { return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(std::time(nullptr))); }

}  // namespace muonp::launch
