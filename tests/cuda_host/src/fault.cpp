// Names the allocation when host code touches device memory outside an operation.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "runtime.h"

namespace cuda_host {
namespace {

struct sigaction previous_action;

// The process is about to die: formatting here is worth the risk.
void on_fault(int signal, siginfo_t* info, void*) {
  Runtime& r = runtime();
  char text[512];
  const char* unknown = "an allocation of";
  for (auto& device : r.devices) {
    if (!device->memory.contains(info->si_addr)) continue;
    std::string place = unknown;
    if (r.lock.try_lock()) {
      place = device->memory.describe(info->si_addr);
      r.lock.unlock();
    }
    const int length = std::snprintf(text, sizeof text,
                                     "cuda_host: access to device memory at %p outside of an operation of device %d: %s\n",
                                     info->si_addr, device->index, place.c_str());
    if (write(STDERR_FILENO, text, std::min(sizeof text - 1, static_cast<size_t>(length))) < 0) break;
  }
  sigaction(signal, &previous_action,
            nullptr);  // on return the access faults again, with the action of before
}

}  // namespace

void install_fault_handler() {
  struct sigaction action;
  std::memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  struct sigaction before;
  if (sigaction(SIGSEGV, nullptr, &before) == 0 && before.sa_sigaction == on_fault) return;
  sigaction(SIGSEGV, &action, &previous_action);
}

}  // namespace cuda_host
