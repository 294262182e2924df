#include "core/base/log.h"

#include <cstdio>

namespace muonp::core {

void Log::print(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

void Log::complain(const char* kind, const std::string& message) const {
  const std::string where = world_size_ > 1 ? fmt::format("rank {} of {}: ", rank_, world_size_) : "";
  std::fputs(fmt::format("muonp: {}: {}{}\n", kind, where, message).c_str(), stderr);
}

}  // namespace muonp::core
