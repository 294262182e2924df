#include "core/base/error.h"

#include <new>
#include <system_error>

namespace muonp::core {

std::string system_refusal(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  const auto* of_system = dynamic_cast<const std::system_error*>(&error);
  if (of_system == nullptr || of_system->code() != std::errc::resource_unavailable_try_again) return {};
  return "the system allows no more threads: the limit on processes (ulimit -u) or of the control group (pids.max) "
         "is reached";
}

}  // namespace muonp::core
