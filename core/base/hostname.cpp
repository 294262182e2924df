#include "core/base/hostname.h"

#include <unistd.h>

#include <array>

namespace muonp::core {

std::string hostname() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

}  // namespace muonp::core
