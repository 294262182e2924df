#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cuda_host.h"

namespace cuda_host {
namespace {

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

uint64_t number(const char* name, uint64_t otherwise, uint64_t most) {
  const std::string text = variable(name, "");
  if (text.empty()) return otherwise;
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos && text.size() <= 19;
  const uint64_t value = digits ? std::stoull(text) : 0;
  if (!digits || value > most) {
    throw std::invalid_argument(std::string(name) + "=" + text + ": must be an integer from 0 to " + std::to_string(most));
  }
  return value;
}

[[noreturn]] void refuse(const char* name, const std::string& value, const char* valid) {
  throw std::invalid_argument(std::string(name) + "=" + value + ": must be " + valid);
}

}  // namespace

Settings Settings::from_environment() {
  Settings s;
  const std::string mode = variable("CUDA_HOST_MODE", "inline");
  if (mode != "inline" && mode != "async") refuse("CUDA_HOST_MODE", mode, "inline or async");
  s.mode = mode == "async" ? Mode::kAsync : Mode::kInline;
  const std::string driver = variable("CUDA_HOST_DRIVER", "ok");
  if (driver != "ok" && driver != "none" && driver != "old") refuse("CUDA_HOST_DRIVER", driver, "ok, none or old");
  s.driver = driver == "ok" ? Driver::kOk : driver == "none" ? Driver::kNone : Driver::kOld;
  s.seed = number("CUDA_HOST_SEED", s.seed, ~uint64_t{0} >> 1);
  s.devices = static_cast<int>(number("CUDA_HOST_DEVICES", 1, 64));
  s.memory = number("CUDA_HOST_MEMORY", s.memory, size_t{1} << 40);
  s.multiprocessors = static_cast<int>(number("CUDA_HOST_MULTIPROCESSORS", 132, 1024));
  if (s.multiprocessors == 0) refuse("CUDA_HOST_MULTIPROCESSORS", "0", "an integer from 1 to 1024");
  s.report_leaks = number("CUDA_HOST_LEAKS", 1, 1) == 1;
  s.node = static_cast<int>(number("CUDA_HOST_NODE", 0, 65535));
  s.max_delay_us = static_cast<unsigned>(number("CUDA_HOST_DELAY", s.max_delay_us, 1'000'000));
  return s;
}

}  // namespace cuda_host
