// Names the allocation when host code touches device memory outside an operation, and counts pages that a metered one
// touches.
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "runtime.h"

namespace cuda_host {
namespace {

struct sigaction previous_action;

#ifdef __x86_64__
bool is_write(const void* context) {
  constexpr greg_t kWrite = 2;  // of the page fault's error code
  return (static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & kWrite) != 0;
}
#else
bool is_write(const void*) { return true; }  // TrafficMeter refuses to be made
#endif

// Unless a page is counted the process is about to die: formatting here is worth the risk.
void on_fault(int signal, siginfo_t* info, void* context) {
  Runtime& r = runtime();
  for (auto& device : r.devices)
    if (device->memory.touch(info->si_addr, is_write(context))) return;
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
