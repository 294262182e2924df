#include "launch/program/wait_policy.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace muonp::launch {
namespace {

// Turns of libgomp's loop, each a pause of the processor: some tens of microseconds, as long as sleeping and being woken
// take.
constexpr const char* kSpins = "300";

bool computes(const char* command) {
  constexpr std::string_view kThatCompute[] = {"train", "eval", "generate", "spectral", "bench"};
  return command != nullptr && std::ranges::find(kThatCompute, command) != std::end(kThatCompute);
}

}  // namespace

void bound_waiting(char** arguments) {
  if (arguments[0] == nullptr || !computes(arguments[1])) return;
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  char program[PATH_MAX];  // its real name: tools find processes by it
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) return;
  program[length] = '\0';
  ::setenv("GOMP_SPINCOUNT", kSpins, 1);
  ::execv(program, arguments);
}

}  // namespace muonp::launch
